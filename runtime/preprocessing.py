"""From a scan to the network's grid and back to the scan's.

Order of operations: orient, transpose, crop, normalise, resample. Normalising comes
before resampling, since interpolation would blur the border of the nonzero mask. The
network's axes count depth, height, width: the stored axes in reverse, (Z, Y, X), then
``transpose_forward``, as in nnU-Net v2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.cropping import Box, content_box, nonzero_mask
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.manifest import Preprocessing, Resampling, Spacing, Triple
from segmaformer.runtime.normalization import NormalizedChannel
from segmaformer.runtime.resampling import channel_resize, resample, target_shape
from segmaformer.runtime.volume import Element, Reorientation, Volume, orient_to


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """A scan on the network's grid, and the way back.

    Attributes
    ----------
    image
        Normalised intensities (C, D, H, W), float32.
    spacing_mm
        Spacing of `image` along D, H and W.
    reorientation
        Brings stored axes (X, Y, Z) to the network's.
    uncropped_shape
        Voxels of the whole scan along the network's axes, before resampling.
    box
        Part of that which was kept.
    scan_spacing_mm
        Spacing of the scan along the network's axes, before resampling.
    """

    image: npt.NDArray[np.float32] = field(repr=False)
    spacing_mm: Spacing
    reorientation: Reorientation
    uncropped_shape: Triple
    box: Box
    scan_spacing_mm: Spacing

    @property
    def cropped_shape(self) -> Triple:
        """Voxels inside `box`: the grid that :func:`restore_logits` returns to."""
        depth, height, width = (side.stop - side.start for side in self.box)
        return depth, height, width


def preprocess(volume: Volume, spec: Preprocessing, *, threads: int = 0) -> Preprocessed:
    """Bring `volume` to the grid and the intensities that a network was trained on.

    Beside the result, memory holds a few planes, and a mask where a normalisation needs it.

    Parameters
    ----------
    threads
        Threads to use; 0 takes every available processor.

    Raises
    ------
    InputError
        The volume has another number of channels than `spec`, is zero everywhere or
        does not suit the normalisation.
    """
    if len(volume.voxels) != len(spec.channels):
        raise InputError(
            f"the scan has {len(volume.voxels)} channels; the model expects "
            f"{len(spec.channels)}, in this order: {', '.join(spec.channels)}"
        )
    voxels = network_axes(volume, spec).apply(volume.voxels)
    box = content_box(voxels) if spec.crop_to_nonzero else _whole(voxels)
    cropped = voxels[(slice(None), *box)]
    masked = any(normalization.use_mask for normalization in spec.normalization)
    mask = nonzero_mask(cropped) if masked else None
    grid = _grid(volume, spec, box)
    _, depth, height, width = grid.image.shape
    resize = channel_resize(
        grid.cropped_shape,
        (depth, height, width),
        spacing_mm=grid.scan_spacing_mm,
        new_spacing_mm=grid.spacing_mm,
        resampling=spec.resampling,
        threads=threads,
    )
    image = np.empty(grid.image.shape, np.float32)
    for channel, normalization, target in zip(cropped, spec.normalization, image, strict=True):
        resize.run(NormalizedChannel(channel, normalization, mask), target)
    return replace(grid, image=image)


def network_grid(volume: Volume, spec: Preprocessing) -> Preprocessed:
    """What :func:`preprocess` returns where nothing is cropped, but with an empty image.

    The image takes no memory: for estimates.
    """
    return _grid(volume, spec, _whole(network_axes(volume, spec).apply(volume.voxels)))


def _grid(volume: Volume, spec: Preprocessing, box: Box) -> Preprocessed:
    reorientation = network_axes(volume, spec)
    channels, depth, height, width = reorientation.apply(volume.voxels).shape
    scan_spacing_mm = reorientation.apply_to_spacing(volume.spacing_mm)
    spacing_mm = spec.spacing or scan_spacing_mm
    cropped = Preprocessed(
        np.empty((channels, 0, 0, 0), np.float32),
        spacing_mm,
        reorientation,
        (depth, height, width),
        box,
        scan_spacing_mm,
    )
    shape = target_shape(cropped.cropped_shape, scan_spacing_mm, spacing_mm)
    return replace(cropped, image=np.broadcast_to(np.float32(0), (channels, *shape)))


def restore_logits(
    logits: npt.NDArray[np.float32],
    prepared: Preprocessed,
    resampling: Resampling,
    *,
    threads: int = 0,
) -> npt.NDArray[np.float32]:
    """Resample logits from the network's grid to that of the cropped scan.

    Parameters
    ----------
    logits
        (C, D, H, W), float32, on the grid of ``prepared.image``.
    threads
        Threads to use; 0 takes every available processor.

    Returns
    -------
    ndarray
        (C, *prepared.cropped_shape), float32.

    Raises
    ------
    ValueError
        `logits` do not lie on the grid of ``prepared.image``.
    """
    _expect_grid(logits, prepared.image.shape[1:])
    return resample(
        logits,
        prepared.cropped_shape,
        spacing_mm=prepared.spacing_mm,
        new_spacing_mm=prepared.scan_spacing_mm,
        resampling=resampling,
        threads=threads,
    )


def restore_labels(labels: npt.NDArray[Element], prepared: Preprocessed) -> npt.NDArray[Element]:
    """Put labels of the cropped scan at their place in the stored scan.

    Parameters
    ----------
    labels
        Integers with the shape ``prepared.cropped_shape``.

    Returns
    -------
    ndarray
        Labels (X, Y, Z) in the order in which the scan is stored, 0 where it was cropped.

    Raises
    ------
    ValueError
        `labels` have another shape.
    """
    _expect_grid(labels, prepared.cropped_shape)
    whole = np.zeros(prepared.uncropped_shape, labels.dtype)
    whole[prepared.box] = labels
    return prepared.reorientation.undo(whole)


def network_axes(volume: Volume, spec: Preprocessing) -> Reorientation:
    """From the stored axes (X, Y, Z) of a scan to the network's (D, H, W)."""
    oriented = (
        Reorientation() if spec.orientation is None else orient_to(volume.affine, spec.orientation)
    )
    return oriented.then_permute((2, 1, 0)).then_permute(spec.transpose_forward)


def _whole(voxels: npt.NDArray[np.float32]) -> Box:
    _, depth, height, width = voxels.shape
    return slice(0, depth), slice(0, height), slice(0, width)


def _expect_grid(array: npt.NDArray[Element], shape: tuple[int, ...]) -> None:
    if array.shape[-3:] != shape:
        raise ValueError(f"the array has spatial shape {array.shape[-3:]}; expected {shape}")
