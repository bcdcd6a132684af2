from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from support.graphs.small_onnx import CHANNELS, TILE, run, small_network, some_tiles
from support.networks.networks import TINY_TILE

from segmaformer.calibration import partial_state, statistics
from segmaformer.calibration.histogram import Histogram
from segmaformer.calibration.statistics import ObservationOptions, observe
from segmaformer.runtime.errors import InputError

TENSORS = ["tiles", "e", "n", "r", "k", "m", "logits"]
KIB_OF_E = 4 * CHANNELS * int(np.prod(TILE)) / 1024


@pytest.fixture(scope="module")
def model() -> Any:
    return small_network()


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return some_tiles(3)


def same(found: dict[str, Histogram], expected: dict[str, Histogram]) -> bool:
    return all(
        (found[name].limit, found[name].largest, found[name].zeros)
        == (each.limit, each.largest, each.zeros)
        and (found[name].counts == each.counts).all()
        for name, each in expected.items()
    )


@pytest.fixture(scope="module")
def expected(model: Any, tiles: np.ndarray) -> dict[str, Histogram]:
    """Compute histograms from activations that are all in memory."""
    altered = onnx.ModelProto()
    altered.CopyFrom(model)
    del altered.graph.output[:]
    altered.graph.output.extend(onnx.ValueInfoProto(name=name) for name in TENSORS)
    histograms = {name: Histogram() for name in TENSORS}
    for tile in tiles:
        for name, array in zip(TENSORS, run(altered, tile[None]), strict=True):
            histograms[name].add(array)
    return histograms


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the outputs of each network that was opened."""
    counts: list[int] = []
    original = statistics.open_network

    def spy(content: bytes, *, threads: int) -> Any:
        counts.append(len(onnx.ModelProto.FromString(content).graph.output))
        return original(content, threads=threads)

    monkeypatch.setattr(statistics, "open_network", spy)
    return counts


def test_one_pass_where_memory_suffices(
    model: Any, tiles: np.ndarray, expected: dict[str, Histogram], opened: list[int]
) -> None:
    runs: list[tuple[int, int]] = []
    found = observe(model, TENSORS, tiles, progress=lambda *now: runs.append(now))
    assert same(found, expected)
    assert list(found) == TENSORS
    assert opened == [len(TENSORS)]
    assert runs == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_little_memory_takes_more_passes_and_counts_the_same(
    model: Any,
    tiles: np.ndarray,
    expected: dict[str, Histogram],
    opened: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "MIB", int(2.5 * KIB_OF_E * 1024))
    found = observe(model, TENSORS, tiles, ObservationOptions(budget_mib=1))
    assert same(found, expected)
    assert opened == [3, 2, 2]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    original = Histogram.add
    calls = iter(range(10_000))

    def add(self: Histogram, values: np.ndarray) -> None:
        if next(calls) == count:
            raise KeyboardInterrupt
        original(self, values)

    monkeypatch.setattr(Histogram, "add", add)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Save after every run."""
    monkeypatch.setattr(partial_state, "SAVE_SECONDS", 0.0)
    return None


@pytest.mark.parametrize("count", [0, 4, 10, 20])
def test_an_interrupted_observation_goes_on_where_it_was(
    model: Any,
    tiles: np.ndarray,
    expected: dict[str, Histogram],
    tmp_path: Path,
    often: None,
    count: int,
) -> None:
    options = ObservationOptions(state=tmp_path / "partial.npz")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, count)
        with pytest.raises(KeyboardInterrupt):
            observe(model, TENSORS, tiles, options)
    whole_runs = count // len(TENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["partial.npz"] * bool(whole_runs)
    lines: list[str] = []
    runs: list[tuple[int, int]] = []
    found = observe(
        model, TENSORS, tiles, options, progress=lambda *now: runs.append(now), report=lines.append
    )
    assert same(found, expected)
    assert runs[0] == (whole_runs, 3)
    assert [line.startswith(f"continuing after {whole_runs} runs") for line in lines] == (
        [True] * bool(whole_runs)
    )


def test_what_is_finished_is_not_run_again(
    model: Any,
    tiles: np.ndarray,
    expected: dict[str, Histogram],
    tmp_path: Path,
    opened: list[int],
) -> None:
    options = ObservationOptions(state=tmp_path / "partial.npz")
    observe(model, TENSORS, tiles, options)
    assert same(observe(model, TENSORS, tiles, options), expected)
    assert len(opened) == 1


@pytest.mark.parametrize("difference", ["tiles", "weights", "tensors", "damaged"])
def test_a_state_of_another_calibration_is_named_and_not_used(
    model: Any,
    tiles: np.ndarray,
    expected: dict[str, Histogram],
    tmp_path: Path,
    difference: str,
) -> None:
    options = ObservationOptions(state=tmp_path / "partial.npz")
    observe(
        small_network(seed=5) if difference == "weights" else model,
        TENSORS[:-1] if difference == "tensors" else TENSORS,
        tiles + np.float32(difference == "tiles"),
        options,
    )
    if difference == "damaged":
        (tmp_path / "partial.npz").write_bytes(b"PK damaged")
    lines: list[str] = []
    assert same(observe(model, TENSORS, tiles, options, report=lines.append), expected)
    (line,) = lines
    assert line.endswith("counting from the start")


def test_activations_that_are_no_numbers_are_refused(model: Any, tiles: np.ndarray) -> None:
    bad = tiles.copy()
    bad[1, 0, 2, 3, 4] = np.nan
    with pytest.raises(InputError, match="e on calibration tile 1: a value is NaN"):
        observe(model, ["e"], bad)


def test_an_unknown_tensor_is_refused(model: Any, tiles: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no tensor elsewhere"):
        observe(model, ["e", "elsewhere"], tiles)


def test_the_scan_is_watched_too(tiny_onnx: Any) -> None:
    (name,) = [node.output[0] for node in tiny_onnx.graph.node if node.op_type == "SelectiveScan"][
        :1
    ]
    tile = np.random.default_rng(0).normal(size=(1, 1, *TINY_TILE)).astype(np.float32)
    assert observe(tiny_onnx, [name], tile)[name].largest > 0
