from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from support.stand_ins.builder_fakes import two_labels
from support.stand_ins.gpu_machine import TILE, GpuMachine, brightness_package, pretend

from segmaformer.runtime.backends import BackendOptions, run_checked
from segmaformer.runtime.backends.tensorrt.rtx import open_rtx, what_is_missing
from segmaformer.runtime.backends.tensorrt.rtx_library import rtx_key
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, EngineError, MissingExtraError
from segmaformer.runtime.package.reader import Package


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpuMachine:
    """Set up a machine with a GPU of target sm86 and TensorRT-RTX 1.7."""
    machine = pretend(monkeypatch, tmp_path)
    machine.driver.capability = (8, 6)
    machine.trt.__version__ = "1.7.1"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", machine.trt)  # type: ignore[arg-type]
    return machine


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return brightness_package(tmp_path)


def keep_engine(
    package: Package, *, target: str = "sm86", version: str = "1.7.1", batch: int = 1
) -> Path:
    key = rtx_key(package, "fp16", target, version).for_batch(batch)
    return EngineCache().store(key, b"an engine")


def open_engine(package: Package) -> EngineSession:
    return open_rtx(package, "fp16", BackendOptions())


def test_a_kept_engine_runs(machine: GpuMachine, package: Package) -> None:
    machine.trt.batch = 2
    keep_engine(package, batch=2)
    session = open_engine(package)
    assert session.description == "TensorRT-RTX 1.7.1, Fake GPU, fp16, batch 2"
    assert session.tiles_at_once >= 2
    assert len(session.identity) == 64
    tiles = np.random.default_rng(0).normal(size=(3, 1, *TILE)).astype(np.float32)
    np.testing.assert_array_equal(session.run(tiles), two_labels(tiles))


def test_an_engine_serves_every_device_of_its_target(machine: GpuMachine, package: Package) -> None:
    keep_engine(package)
    first = open_engine(package)
    machine.driver.name = "Another GPU of the same target"
    second = open_engine(package)
    assert "Another GPU" in second.description
    # A self-test that was passed on one says nothing about the other.
    assert first.identity != second.identity
    assert open_engine(package).identity == second.identity


def test_without_an_engine_the_command_is_named(machine: GpuMachine, package: Package) -> None:
    with pytest.raises(
        BackendError,
        match=r"run: sgmf build \S+ --backend tensorrt-rtx --variant fp16 --target sm86",
    ):
        open_engine(package)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"target": "sm89"}, "the target was sm89, here it is sm86"),
        ({"version": "1.6.0"}, "the builder's version was 1.6.0, here it is 1.7.1"),
    ],
)
def test_an_engine_for_something_else_is_not_opened(
    machine: GpuMachine, package: Package, kept: dict[str, str], words: str
) -> None:
    keep_engine(package, **kept)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=words):
        open_engine(package)
    assert machine.trt.opened == []


def test_an_altered_engine_never_reaches_tensorrt_rtx(
    machine: GpuMachine, package: Package
) -> None:
    keep_engine(package).write_bytes(b"evil code")
    with pytest.raises(EngineError, match="SHA-256"):
        open_engine(package)
    assert machine.trt.opened == []


def test_logits_that_are_no_numbers_are_refused(machine: GpuMachine, package: Package) -> None:
    keep_engine(package)
    with pytest.raises(BackendError, match=r"logits from TensorRT-RTX 1\.7\.1, Fake GPU, fp16"):
        run_checked(open_engine(package), np.full((1, 1, *TILE), np.nan, np.float32))


@pytest.mark.parametrize("capability", [(9, 0), (8, 7), (7, 0)])
def test_a_device_that_it_does_not_know_is_refused(
    machine: GpuMachine, package: Package, capability: tuple[int, int]
) -> None:
    machine.driver.capability = capability
    with pytest.raises(BackendError, match=r"has no target sm\d\d for Fake GPU, only sm75"):
        open_engine(package)


def test_what_is_missing_is_named(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch, package: Package
) -> None:
    monkeypatch.setattr("segmaformer.runtime.backends.tensorrt.rtx.load_driver", lambda: None)
    assert what_is_missing() is None
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert "segmaformer[rtx]" in str(what_is_missing())
    with pytest.raises(MissingExtraError, match=r"segmaformer\[rtx\]"):
        open_engine(package)


def test_without_a_driver_nothing_runs(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmaformer.runtime.bindings.cuda_driver.LIBRARY", "libno-driver.so")
    missing = what_is_missing()
    assert missing is not None
    assert "no NVIDIA driver" in missing
