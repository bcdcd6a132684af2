"""Scans, specifications and networks for the whole native pipeline, which one call runs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.native.single_functions import SegmentArgs, call

from segmaformer.runtime.bindings.callbacks import Callbacks
from segmaformer.runtime.bindings.label_task import PROGRESS
from segmaformer.runtime.bindings.pipeline_call import as_json
from segmaformer.runtime.bindings.structs import ELEMENT_TYPES, VolumeArgs, element_type
from segmaformer.runtime.errors import CancelledError
from segmaformer.runtime.pipeline.tile_network import TileNetwork
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
        return logits.astype(tiles.dtype)

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
