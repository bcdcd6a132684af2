from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from support.stand_ins.gpu_machine import brightness_package

from segmaformer.runtime import backends
from segmaformer.runtime.backends import (
    Backend,
    BackendOptions,
    Device,
    open_session,
    self_test,
    timed_choice,
)
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.reader import Package

Compute = Callable[[np.ndarray], np.ndarray]


def exact(tiles: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(tiles), tiles], axis=1)


def rounded(tiles: np.ndarray) -> np.ndarray:
    """Simulate half precision: labels stay, logits move by more than float32 may."""
    logits = exact(tiles)
    return logits + np.float32(1e-3) * logits.max() * (logits > 0)


def inverted(tiles: np.ndarray) -> np.ndarray:
    return -exact(tiles)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: True)
    return brightness_package(tmp_path)


class Candidate:
    """A backend that computes something, and how often it did."""

    def __init__(self, compute: Compute, *, identity: str | None = None, variant: str = "fp16"):
        self.compute, self.runs, self.opened = compute, 0, list[str]()
        self.identity, self.variant = identity, variant

    def backend(
        self,
        *,
        name: str = "gpu",
        device: Device = "cuda",
        missing: str | None = None,
        failing: str | None = None,
    ) -> Backend:
        def open_it(package: Package, variant: str, options: BackendOptions) -> Any:
            self.opened.append(variant)
            if failing is not None:
                raise BackendError(failing)
            return SimpleNamespace(description="a GPU", run=self._run, identity=self.identity)

        return Backend(name, device, open_it, lambda: missing, (self.variant, "fp32"))

    def _run(self, tiles: np.ndarray) -> np.ndarray:
        self.runs += 1
        return self.compute(tiles)


def choose(
    package: Package,
    monkeypatch: pytest.MonkeyPatch,
    *known: Backend,
    variant: str | None = None,
    options: BackendOptions = BackendOptions(),  # noqa: B008  (frozen)
) -> tuple[str, list[str]]:
    """Open ``auto`` among `known` and the CPU; return its description and the reported lines."""
    *_, everywhere = backends.backends()
    monkeypatch.setattr(backends, "backends", lambda: (*known, everywhere))
    lines: list[str] = []
    session = open_session(package, variant=variant, options=options, report=lines.append)
    return session.description, lines


def test_a_gpu_that_computes_the_same_is_taken(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate(rounded)
    assert choose(package, monkeypatch, candidate.backend()) == ("a GPU", [])
    assert candidate.opened == ["fp16"]


def test_wrong_labels_are_passed_over_and_said(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    description, lines = choose(package, monkeypatch, Candidate(inverted).backend())
    assert description.startswith("ONNX Runtime")
    assert len(lines) == 1
    assert lines[0].startswith("auto passes over gpu: its self-test failed: ")
    assert "of labels are equal" in lines[0]


def test_float32_is_held_to_its_own_bound(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Candidate(rounded).backend()
    description, lines = choose(package, monkeypatch, gpu, variant="fp32")
    assert description.startswith("ONNX Runtime")
    assert "logits differ by" in lines[0]


def test_nan_does_not_pass(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Candidate(lambda tiles: exact(tiles) * np.float32(np.nan), variant="fp32")
    description, lines = choose(package, monkeypatch, candidate.backend())
    assert description.startswith("ONNX Runtime")
    assert "NaN or infinite" in lines[0]


@pytest.mark.parametrize("how", ["missing", "failing"])
def test_what_cannot_run_is_passed_over_with_its_reason(
    package: Package, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    first, second = Candidate(exact), Candidate(exact)
    unable = first.backend(name="first", **{how: "no engine"})  # type: ignore[arg-type]
    description, lines = choose(package, monkeypatch, unable, second.backend(name="second"))
    assert (description, lines) == ("a GPU", ["auto passes over first: no engine"])
    assert first.opened == ([] if how == "missing" else ["fp16"])


def test_a_passed_test_is_remembered_for_its_identity(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate(exact, identity="one")
    for _ in range(3):
        choose(package, monkeypatch, candidate.backend())
    assert candidate.runs == 1
    candidate.identity = "two"
    choose(package, monkeypatch, candidate.backend())
    assert candidate.runs == 2


def test_a_failed_test_is_not_remembered(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Candidate(inverted, identity="one")
    for _ in range(2):
        choose(package, monkeypatch, candidate.backend())
    assert candidate.runs == 2


def test_without_a_driver_nothing_is_looked_at(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(self_test, "open_best", None)
    candidate = Candidate(exact, identity="one")
    description, lines = choose(package, monkeypatch, candidate.backend(missing="no driver"))
    assert description.startswith("ONNX Runtime")
    assert (lines, candidate.opened) == ([], [])
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("variant", "options", "taken"),
    [
        (None, BackendOptions(), True),
        ("fp32", BackendOptions(device="cpu"), True),
        ("fp16", BackendOptions(), False),
        (None, BackendOptions(use_op_library=False), False),
    ],
)
def test_openvino_is_preferred_for_float32_on_a_cpu(
    package: Package,
    monkeypatch: pytest.MonkeyPatch,
    variant: str | None,
    options: BackendOptions,
    taken: bool,
) -> None:
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: False)
    candidate = Candidate(exact, variant="fp32")
    openvino = candidate.backend(name="openvino", device="cpu")
    description, lines = choose(package, monkeypatch, openvino, variant=variant, options=options)
    assert (description == "a GPU", lines) == (taken, [])


def test_openvino_that_computes_something_else_is_passed_over(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: False)
    candidate = Candidate(inverted, variant="fp32")
    openvino = candidate.backend(name="openvino", device="cpu")
    description, lines = choose(package, monkeypatch, openvino)
    assert description.startswith("ONNX Runtime")
    assert "auto passes over openvino: its self-test failed" in lines[0]


@pytest.fixture
def timed(package: Package, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, int]]:
    """Return a function that opens ``auto`` with a CPU backend whose tile takes given seconds."""
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: False)

    def auto(candidate_seconds: float, identity: str = "one") -> tuple[str, int]:
        measured: list[str] = []

        def seconds(session: Any, tile: np.ndarray) -> float:
            session.run(tile)
            measured.append(session.description)
            return candidate_seconds if session.description == "a GPU" else 1.0

        monkeypatch.setattr(timed_choice, "_seconds", seconds)
        candidate = Candidate(exact, variant="fp32", identity=identity)
        backend = dataclasses.replace(
            candidate.backend(name="openvino", device="cpu"), identify=lambda *_: identity
        )
        description, lines = choose(package, monkeypatch, backend)
        assert lines == []
        return description.split(" 1.")[0], len(measured)

    return auto


@pytest.mark.parametrize(
    ("seconds", "runs", "taken"), [(0.5, 6, True), (2.0, 6, False), (9.0, 2, False)]
)
def test_the_faster_of_two_on_a_cpu_is_taken_and_remembered(
    timed: Callable[..., tuple[str, int]], seconds: float, runs: int, taken: bool
) -> None:
    name = "a GPU" if taken else "ONNX Runtime"
    assert timed(seconds) == (name, runs)
    assert timed(3 - seconds) == (name, 0)
    assert timed(3 - seconds, identity="two")[1] > 0


def test_without_a_private_folder_nothing_is_timed(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(self_test, "_memory", lambda: None)
    candidate = Candidate(exact, variant="fp32", identity="one")
    backend = dataclasses.replace(
        candidate.backend(name="openvino", device="cpu"), identify=lambda *_: "one"
    )
    description, lines = choose(package, monkeypatch, backend)
    assert (description.startswith("ONNX Runtime"), lines, candidate.opened) == (True, [], [])


def test_what_tests_itself_is_not_tested_twice(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    itself = {each.label for each in backends.backends() if each.tests_itself}
    assert itself == {"onnxruntime --device cuda", "openvino", "openvino-bf16"}
    candidate = Candidate(exact)
    tested = dataclasses.replace(candidate.backend(), tests_itself=True)
    assert choose(package, monkeypatch, tested) == ("a GPU", [])
    assert candidate.runs == 0


def test_openvino_is_an_extra_whose_absence_is_no_news(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: False)
    absent = Candidate(exact).backend(name="openvino", device="cpu", missing="not installed")
    description, lines = choose(package, monkeypatch, absent)
    assert (description.startswith("ONNX Runtime"), lines) == (True, [])


def test_a_memory_that_others_can_write_is_not_believed(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    candidate = Candidate(exact, identity="one")
    choose(package, monkeypatch, candidate.backend())
    (tmp_path / "engines").chmod(0o777)
    for runs in (2, 3):
        assert choose(package, monkeypatch, candidate.backend()) == ("a GPU", [])
        assert candidate.runs == runs


def test_the_tile_is_the_same_every_time(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def watch(tiles: np.ndarray) -> np.ndarray:
        seen.append(tiles.copy())
        return exact(tiles)

    for _ in range(2):
        choose(package, monkeypatch, Candidate(watch).backend())
    np.testing.assert_array_equal(seen[0], seen[1])
    assert seen[0].shape == (1, 1, *package.manifest.tiling.tile)
    assert np.ptp(seen[0]) > 1
