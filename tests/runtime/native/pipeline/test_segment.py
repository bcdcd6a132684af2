"""The whole pipeline in one native call, against the Python runtime's, voxel for voxel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.native.single_functions import SegmentArgs, call

from segmaformer.runtime.bindings.callbacks import Callbacks
from segmaformer.runtime.bindings.label_task import PROGRESS
from segmaformer.runtime.bindings.pipeline_call import as_json
from segmaformer.runtime.bindings.structs import (
    ELEMENT_TYPES,
    VolumeArgs,
    element_type,
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
    Resampling,
    Tiling,
)

PLENTY = 1 << 40


class Case(SimpleNamespace):
    """Scan, specification and a network of tiles (B, C, *tile) to logits (B, K, *tile)."""

    voxels: np.ndarray
    affine: np.ndarray
    preprocessing: Preprocessing
    tiling: Tiling
    output: Output
    mirror_axes: tuple[int, ...]
    run: Callable[[np.ndarray], np.ndarray]


def native_labels(
    case: Case,
    *,
    budget_bytes: int = PLENTY,
    tiles_at_once: int = 1,
    overlap: bool = False,
    labels: np.ndarray | None = None,
    stop_at: int = -1,
    seen: list[tuple[int, int]] | None = None,
) -> np.ndarray:
    if labels is None:
        labels = np.full(case.voxels.shape[1:], 77, np.uint8)
    callbacks = Callbacks()
    network = TileNetwork(case.run, tiles_at_once, overlap, case.mirror_axes)

    def progress(_user: Any, done: int, count: int) -> None:
        if seen is not None:
            seen.append((done, count))
        if done == stop_at:
            raise CancelledError(f"after {done}")

    args = SegmentArgs(
        volume=ctypes.pointer(VolumeArgs.of(case.voxels, case.affine)),
        preprocessing=as_json(case.preprocessing),
        tiling=as_json(case.tiling),
        output=as_json(case.output),
        network=network.args(len(case.voxels), case.output.channels, case.tiling.tile, callbacks),
        progress=PROGRESS(callbacks.guarded(progress)),
        threads=2,
        budget_bytes=budget_bytes,
        labels=labels.ctypes.data,
        label_type=element_type(labels),
        label_strides=tuple(stride // labels.itemsize for stride in labels.strides),
    )
    call("sgmf_segment_volume", args, callbacks=callbacks)
    return labels


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


def oblique(random: np.random.Generator) -> np.ndarray:
    affine = np.eye(4)
    spacing = random.choice([0.7, 1, 1.5, 4], 3) * random.choice([-1, 1], 3)
    turn = Rotation.random(random_state=int(random.integers(1 << 30))).as_matrix()
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = random.normal(0, 50, 3)
    return affine


def scan(random: np.random.Generator, channels: int, kind: type) -> np.ndarray:
    """Draw noise with holes and an empty border, in some order of axes."""
    shape = tuple(random.integers(3, 18, 3))
    lowest = 0 if np.dtype(kind).kind == "u" else -100
    voxels = random.normal(0, 30, (channels, *shape)).clip(lowest, 100)
    voxels[:, random.random(shape) < 0.3] = 0
    voxels[:, : random.integers(0, 2), :, -1:] = 0
    voxels[:, 1, 1, 1] = 5
    order = 1 + random.permutation(3)
    return np.ascontiguousarray(voxels.astype(kind)).transpose(0, *order)


def place_dependent(
    random: np.random.Generator, channels: int, classes: int, tile: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    mix = random.normal(size=(classes, channels)).astype(np.float32)
    place = 0.3 * random.normal(size=(classes, *tile)).astype(np.float32)

    def run(tiles: np.ndarray) -> np.ndarray:
        features = tiles + np.float32(0.5) * np.roll(tiles, 1, 2)
        logits: np.ndarray = np.einsum("kc,bcdhw->bkdhw", mix, features) + place
        return logits.astype(np.float32)

    return run


def some_case(random: np.random.Generator, **given_: Any) -> Case:
    channels, classes = int(random.integers(1, 4)), int(random.integers(2, 5))
    tile = tuple(int(side) for side in random.integers(5, 10, 3))
    schemes = random.choice(["zscore", "ct", "none", "rescale01", "rescale01_slices"], channels)
    normalization = tuple(
        Normalization("ct", mean=3.0, std=11.0, lower=-50.0, upper=60.0)
        if scheme == "ct"
        else Normalization(scheme, use_mask=bool(random.integers(2)))
        for scheme in schemes
    )
    a, b, c = (int(axis) for axis in random.permutation(3))
    preprocessing = Preprocessing(
        tuple("abc"[:channels]),
        normalization,
        given_["orientation"],
        (a, b, c),
        bool(random.integers(2)),
        given_["spacing"],
        Resampling(given_["order"], int(random.integers(2)), given_["separate_z"]),
        Resampling(given_["logits_order"], int(random.integers(2)), given_["separate_z"]),
    )
    regions = bool(random.integers(2))
    labels = tuple(Label(value, str(value)) for value in range(classes + regions))
    painted = tuple(Region(str(i), (i + 1,), i + 1) for i in range(classes)) if regions else ()
    mirrored = tuple(int(axis) for axis in np.flatnonzero(random.integers(0, 2, 3)))
    return Case(
        voxels=scan(random, channels, given_["kind"]),
        affine=oblique(random),
        preprocessing=preprocessing,
        tiling=Tiling(tile, given_["step"], given_["gaussian"], (), given_["scheme"]),
        output=Output(labels, painted),
        mirror_axes=mirrored if given_["mirror"] else (),
        run=place_dependent(random, channels, classes, tile),
    )


cases = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(ELEMENT_TYPES),
        "orientation": st.sampled_from([None, "RAS", "LPS", "SAR"]),
        "spacing": st.sampled_from([None, (2.0, 2.0, 2.0), (1.5, 1.7, 4.0), (5.0, 1.6, 1.5)]),
        "order": st.integers(0, 5),
        "logits_order": st.sampled_from([0, 1, 1, 3]),
        "separate_z": st.sampled_from([None, True, False]),
        "step": st.sampled_from([0.4, 0.5, 0.7, 1.0]),
        "gaussian": st.booleans(),
        "scheme": st.sampled_from(["nnunet", "monai"]),
        "mirror": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
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
        (Tiling((1, 1, 1), step=0.1), GeometryError, "tiles; expected at most 86400, a day"),
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
