"""PyTorch's result at export, kept in the package to check other machines against.

The input is not kept: it is a phantom that every machine makes anew, so that a package holds no
part of a scan. The package keeps a coarse grid of the phantom and of the logits, and every label.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.tile_parity import TileParity
from segmaformer.runtime.parity.tiles import phantom_tiles
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.system.npz import UNREADABLE, read_npz

REFERENCE_FILE = "reference.npz"

_GRID_POINTS = 16
_LARGEST_DEVIATION = 1e-3
"""Largest deviation of the phantom, in its standard deviations: far above rounding."""


@dataclass(frozen=True, eq=False)
class StoredReference:
    """A phantom tile and PyTorch's float32 answer to it.

    Attributes
    ----------
    tile
        Shape (1, C, *tile), float32.
    labels
        Shape (*tile), the label of every voxel.
    logits
        Shape (K, d, h, w), float32: every :func:`grid_step`-th voxel.
    """

    tile: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)

    def compare(self, logits: np.ndarray, parity: TileParity) -> None:
        """Add a comparison of another network's logits (K, *tile) to `parity`."""
        parity.add_sampled(logits, self.logits, self.labels, step=grid_step(self.labels.shape))


def grid_step(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the distance of the voxels whose logits are kept, along each axis."""
    return tuple(-(-extent // _GRID_POINTS) for extent in shape)


def reference_tile(manifest: Manifest) -> np.ndarray:
    """Make the phantom, shape (1, *manifest.input_shape), float32."""
    return phantom_tiles(
        manifest.preprocessing.normalization, manifest.tiling.tile, masks=manifest.masks, count=1
    )


def pack_reference(tile: np.ndarray, logits: np.ndarray, manifest: Manifest) -> bytes:
    """Serialise the content of :data:`REFERENCE_FILE`; the same for the same arguments.

    Parameters
    ----------
    tile
        Phantom from :func:`reference_tile`.
    logits
        The reference's answer, shape (K, *tile), float32.
    manifest
        Manifest of the package.
    """
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        tile=_on_grid(tile[0]),
        labels=logits_to_labels(logits, manifest.output),
        logits=_on_grid(logits),
    )
    return stream.getvalue()


def stored_reference(package: Package) -> StoredReference | None:
    """Read the reference in a package; None if it was exported without one.

    Raises
    ------
    PackageError
        The file cannot be read, or belongs to a phantom of another version.
    """
    if REFERENCE_FILE not in package.manifest.files:
        return None
    manifest = package.manifest
    tile = reference_tile(manifest)
    coarse = _on_grid(tile[0]).shape
    arrays = _unpack(
        package,
        {
            "tile": (coarse, "f"),
            "labels": (manifest.tiling.tile, "iu"),
            "logits": ((manifest.output.channels, *coarse[1:]), "f"),
        },
    )
    deviation = np.abs(arrays["tile"] - _on_grid(tile[0])).max()
    if not deviation <= _LARGEST_DEVIATION:  # also for NaN
        raise PackageError(
            f"{REFERENCE_FILE} of {package.path} was made with other phantoms than this version "
            "makes; export the package again, or verify on scans with --data"
        )
    return StoredReference(tile, arrays["labels"], arrays["logits"])


def _on_grid(array: np.ndarray) -> np.ndarray:
    """Take every step-th voxel of (channels, D, H, W)."""
    depth, height, width = grid_step(array.shape[1:])
    return np.ascontiguousarray(array[:, ::depth, ::height, ::width])


def _unpack(
    package: Package, expected: Mapping[str, tuple[tuple[int, ...], str]]
) -> dict[str, np.ndarray]:
    try:
        return read_npz(io.BytesIO(package.read(REFERENCE_FILE)), expected)
    except UNREADABLE as error:
        raise PackageError(f"{REFERENCE_FILE} of {package.path} cannot be read: {error}") from error
