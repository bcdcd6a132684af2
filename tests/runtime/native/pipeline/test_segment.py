"""The whole pipeline in one native call, against the Python runtime's, voxel for voxel."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.whole_pipeline import (
    PLENTY,
    Case,
    cases,
    native_labels,
    place_dependent,
    some_case,
)

from segmaformer.runtime.errors import (
    BackendError,
    BudgetError,
    CancelledError,
    GeometryError,
    InputError,
)
from segmaformer.runtime.pipeline.prediction import Prediction
from segmaformer.runtime.pipeline.preprocessing import preprocess, restore_map
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import (
    Label,
    Normalization,
    Output,
    Preprocessing,
    Region,
    Tiling,
)


def python_labels(case: Case) -> np.ndarray:
    scan = preprocess(Volume(case.voxels.astype(np.float32), case.affine), case.preprocessing)
    manifest = SimpleNamespace(
        output=case.output, tiling=case.tiling, preprocessing=case.preprocessing
    )
    prediction = Prediction(
        scan,
        manifest,  # type: ignore[arg-type]
        TileNetwork(case.run, mirrored_axes=case.mirror_axes),
        budget_bytes=PLENTY,
        scan_bytes=0,
        threads=2,
    )
    return restore_map(prediction.labels(lambda done, count: None), scan)


@settings(max_examples=60)
@given(
    given_=cases,
    tiles_at_once=st.integers(1, 3),
    overlap=st.booleans(),
    wide=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_equals_python(
    given_: dict[str, Any], tiles_at_once: int, overlap: bool, wide: bool, seed: int
) -> None:
    """Also where labels are stored in another order than the scan, and in a wider type."""
    case = some_case(np.random.default_rng(seed), **given_)
    labels = np.full(case.voxels.shape[:0:-1], 77, np.uint16 if wide else np.uint8).T
    found = native_labels(case, tiles_at_once=tiles_at_once, overlap=overlap, labels=labels)
    np.testing.assert_array_equal(found, python_labels(case))


@pytest.fixture
def plain() -> Case:
    random = np.random.default_rng(4)
    tile = (6, 6, 6)
    return Case(
        voxels=random.normal(9, 3, (2, 30, 28, 26)).astype(np.float32),
        affine=np.diag([1.0, 1.2, 2.5, 1.0]),
        preprocessing=Preprocessing(
            ("a", "b"), (Normalization("zscore"),) * 2, spacing=(1.5, 1.0, 1.0)
        ),
        tiling=Tiling(tile),
        output=Output((Label(0, "0"), Label(1, "1"), Label(2, "2"))),
        mirror_axes=(),
        run=place_dependent(random, 2, 3, tile),
    )


def test_the_smallest_budget_gives_the_same_labels(plain: Case) -> None:
    """Return blocks that are streamed one after the other."""
    whole: list[tuple[int, int]] = []
    expected = native_labels(plain, seen=whole).copy()
    with pytest.raises(BudgetError, match="scan, image, logits and labels of this scan") as error:
        native_labels(plain, budget_bytes=1 << 16)
    least = error.value.least_bytes
    blocks: list[tuple[int, int]] = []
    np.testing.assert_array_equal(native_labels(plain, budget_bytes=least, seen=blocks), expected)
    assert len(blocks) > len(whole)
    with pytest.raises(BudgetError):
        native_labels(plain, budget_bytes=least - 1)


def test_progress_counts_tiles_and_may_stop(plain: Case) -> None:
    seen: list[tuple[int, int]] = []
    native_labels(plain, seen=seen)
    done, counts = zip(*seen, strict=True)
    assert done == (*range(counts[0] + 1),)
    assert len(set(counts)) == 1
    with pytest.raises(CancelledError, match="after 3"):
        native_labels(plain, stop_at=3)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_failing_network_ends_the_run(plain: Case, overlap: bool) -> None:
    calls = []

    def run(tiles: np.ndarray) -> np.ndarray:
        calls.append(len(tiles))
        raise BackendError("it went wrong")

    plain.run = run
    with pytest.raises(BackendError, match="it went wrong"):
        native_labels(plain, overlap=overlap)
    assert len(calls) == 1


def test_scans_that_cannot_be_used_are_refused(plain: Case) -> None:
    empty = Case(**{**vars(plain), "voxels": np.zeros_like(plain.voxels)})
    with pytest.raises(InputError, match="every voxel of the scan is zero"):
        native_labels(empty)
    missing = Case(**{**vars(plain), "voxels": plain.voxels[:1]})
    with pytest.raises(
        InputError, match="has 1 channels; the model expects 2, in this order: a, b"
    ):
        native_labels(missing)
    flat = Case(**{**vars(plain), "affine": np.diag([1.0, 1.0, 0.0, 1.0])})
    with pytest.raises(GeometryError, match="the voxel size is 1 x 1 x 0 mm"):
        native_labels(flat)
    colours = replace(plain.preprocessing, normalization=(Normalization("rgb01"),) * 2)
    dark = Case(**{**vars(plain), "voxels": plain.voxels - 300, "preprocessing": colours})
    with pytest.raises(InputError, match="colour channels from 0 to 255"):
        native_labels(dark)


@pytest.mark.parametrize(
    ("spacing_mm", "complaint"),
    [
        ((1e-5, 1.0, 1.0), "over a million voxels along an axis"),
        ((1e-300, 1.0, 1.0), "over a million voxels along an axis"),
        ((1e-4, 1e-4, 1e-4), "more voxels than any memory holds"),
    ],
)
def test_grids_that_nothing_could_hold_are_refused(
    plain: Case, spacing_mm: tuple[float, float, float], complaint: str
) -> None:
    plain.preprocessing = replace(plain.preprocessing, spacing=spacing_mm)
    with pytest.raises(GeometryError, match=complaint):
        native_labels(plain)


@pytest.mark.parametrize(
    ("tiling", "error", "complaint"),
    [
        (Tiling((6, 6, 6), step=1e-9), GeometryError, "tiles; expected at most 86400, a day"),
        (Tiling((2, 2, 2), step=0.01), GeometryError, "tiles; expected at most 86400, a day"),
        (Tiling((1 << 40, 1 << 40, 1)), ValueError, "more voxels than any backend takes"),
        (Tiling((0, 6, 6)), ValueError, "a tile has no voxels"),
        (Tiling((6, 6, 6), step=0.0), ValueError, "step is 0"),
        (Tiling((1 << 10, 1 << 10, 1 << 10)), BudgetError, "scan, image, logits and labels"),
    ],
)
def test_tilings_that_nothing_could_run_are_refused(
    plain: Case, tiling: Tiling, error: type[Exception], complaint: str
) -> None:
    plain.tiling = tiling
    with pytest.raises(error, match=complaint):
        native_labels(plain, budget_bytes=1 << 30)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_is_refused(plain: Case, value: float) -> None:
    plain.voxels[1, 3, 4, 5] = value
    with pytest.raises(InputError, match="channel 1 has voxels that are NaN or infinite"):
        native_labels(plain)


def test_labels_that_do_not_fit_are_refused(plain: Case) -> None:
    plain.output = Output(
        (Label(0, "0"), Label(1, "1"), Label(300, "2")),
        tuple(Region(str(value), (value,), value) for value in (1, 1, 300)),
    )
    with pytest.raises(ValueError, match="the largest label is 300; give a label buffer of uint16"):
        native_labels(plain)
    wide = np.zeros(plain.voxels.shape[1:], np.uint16)
    assert native_labels(plain, labels=wide).max() == 300
