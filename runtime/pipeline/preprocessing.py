"""Preparation of a scan on the network's grid, and the way back to the scan's.

Order of operations: orient, transpose, crop, normalise, resample; or resample before
normalising, if the specification says ``resample_first``. nnU-Net normalises first, since
interpolation would blur the border of the nonzero mask. The network's axes count depth, height,
width: the stored axes in reverse, (Z, Y, X), then ``transpose_forward``, as in nnU-Net v2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.pipeline_call import as_json, call
from segmaformer.runtime.bindings.structs import (
    NetworkGridArgs,
    VolumeArgs,
    spacing,
    triple,
)
from segmaformer.runtime.pipeline.resampling import resample
from segmaformer.runtime.scans.spacing import training_affine, training_spacing
from segmaformer.runtime.scans.volume import Element, Reorientation, Volume
from segmaformer.runtime.spec import (
    Box,
    Preprocessing,
    PreviousStage,
    Resampling,
    Spacing,
    Tiling,
    Triple,
)


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """A scan on the network's grid, and the way back.

    Attributes
    ----------
    image
        Normalised intensities (C, D, H, W), float32; masks of a previous stage's labels come last.
    spacing_mm
        Spacing of `image` along D, H and W, in mm.
    reorientation
        Reorientation from stored axes (X, Y, Z) to the network's.
    uncropped_shape
        Number of voxels of the whole scan along the network's axes, before resampling.
    box
        Part of that which was kept by cropping.
    scan_spacing_mm
        Spacing of the scan along the network's axes in mm, before resampling.
    centred
        Whether the centres of both grids coincide, whatever the specification aligns.
    """

    image: npt.NDArray[np.float32] = field(repr=False)
    spacing_mm: Spacing
    reorientation: Reorientation
    uncropped_shape: Triple
    box: Box
    scan_spacing_mm: Spacing
    centred: bool = False

    @property
    def without_image(self) -> Preprocessed:
        """The same with an image of zeros, which takes no memory."""
        return dataclasses.replace(self, image=np.broadcast_to(np.float32(0), self.image.shape))

    def resampling(self, given: Resampling) -> Resampling:
        """Return a specification's resampling, as it is between these grids."""
        return dataclasses.replace(given, alignment="centres") if self.centred else given

    @property
    def cropped_shape(self) -> Triple:
        """Shape of `box`: the grid that :func:`restore_logits` returns to."""
        depth, height, width = (side.stop - side.start for side in self.box)
        return depth, height, width


def preprocess(
    volume: Volume,
    spec: Preprocessing,
    *,
    threads: int = 0,
    admit: Callable[[Preprocessed], None] = lambda grid: None,
) -> Preprocessed:
    """Bring `volume` to the grid and the intensities that a network was trained on.

    Beside the result, memory holds a few planes, and a mask if a normalisation needs it.

    Parameters
    ----------
    threads
        Number of threads; 0 uses every available processor.
    admit
        Called with :func:`network_grid` before memory is taken for the image; may raise.

    Raises
    ------
    InputError
        The volume has another number of channels than `spec`, is zero everywhere, holds NaN or
        infinite voxels, or does not suit the normalisation.
    """
    scan, specification = _scan(volume, spec), as_json(spec)
    grid = _find_grid(scan, specification, whole=False)
    channels = len(volume.voxels)
    admit(_without_image(grid, channels))
    image = np.empty((channels, *grid.shape), np.float32)
    call("sgmf_fill_image", scan, specification, grid, None, threads, image)
    return _preprocessed(grid, image)


def with_masks(
    volume: Volume,
    spec: Preprocessing,
    grid: Preprocessed,
    labels: npt.NDArray[np.unsignedinteger],
    stage: PreviousStage,
    *,
    threads: int = 0,
) -> Preprocessed:
    """Prepare a scan for a cascade's second network: with masks of the first one's labels.

    nnU-Net resizes a label map label by label: the indicator of each is interpolated as an image
    is, and a voxel takes the label with the largest value, of equals that of the nearest voxel, or
    else the smallest. Beyond the scan's nonzero part, the background is a label of its own. A
    normalisation in a mask takes the first network's foreground to be inside.

    Parameters
    ----------
    volume, spec, threads
        As for :func:`preprocess`.
    grid
        The second network's :func:`network_grid`.
    labels
        The first network's label map (X, Y, Z) in the order in which `volume` is stored.
    stage
        Labels that become masks, and their resampling.
    """
    scan, specification = _scan(volume, spec), as_json(spec)
    args, channels = _args(grid), len(volume.voxels)
    image = np.empty((channels + len(stage.labels), *args.shape), np.float32)
    label_map = VolumeArgs.of(labels[np.newaxis], volume.affine)
    call("sgmf_fill_image", scan, specification, args, label_map, threads, image[:channels])
    call("sgmf_fill_masks", scan, args, label_map, as_json(stage), threads, image[channels:])
    return dataclasses.replace(grid, image=image)


def network_grid(
    volume: Volume, spec: Preprocessing, *, whole: bool, masks: int = 0
) -> Preprocessed:
    """Return the result of :func:`preprocess`, but with an image that takes no memory.

    Parameters
    ----------
    whole
        Assume that nothing is cropped; voxels are then not read.
    masks
        Number of masks that :func:`with_masks` adds.

    Raises
    ------
    InputError
        As for :func:`preprocess`, as far as the grid shows it.
    """
    grid = _find_grid(_scan(volume, spec), as_json(spec), whole=whole)
    return _without_image(grid, len(volume.voxels) + masks)


def check_grid(grid: Preprocessed, tiling: Tiling) -> None:
    """Refuse a grid of a few voxels, or of more tiles than a day's work.

    Parameters
    ----------
    grid
        Grid of the whole scan, from :func:`network_grid`, before anything is allocated.
    tiling
        Tiling that covers the grid.

    Raises
    ------
    GeometryError
        The scan shrinks to less than 8 x 8 x 8 voxels or to two along an axis, or takes more than
        86,400 tiles.
    """
    call("sgmf_check_grid", _args(grid), as_json(tiling))


def _scan(volume: Volume, spec: Preprocessing) -> VolumeArgs:
    spacing_mm = None
    if spec.reader is not None and volume.stated_spacing is not None:
        spacing_mm = training_spacing(volume.affine, volume.stated_spacing, spec.reader)
    return VolumeArgs.of(volume.voxels, training_affine(volume, spec.reader), spacing_mm)


def _find_grid(scan: VolumeArgs, spec: bytes, *, whole: bool) -> NetworkGridArgs:
    grid = NetworkGridArgs()
    call("sgmf_find_network_grid", scan, spec, whole, grid)
    return grid


def _args(grid: Preprocessed) -> NetworkGridArgs:
    """Write a grid as the native pipeline found it."""
    return NetworkGridArgs(
        axes=grid.reorientation.axes,
        reverse=grid.reorientation.reverse,
        uncropped_shape=grid.uncropped_shape,
        box=tuple(edge for side in grid.box for edge in (side.start, side.stop)),
        scan_spacing_mm=grid.scan_spacing_mm,
        spacing_mm=grid.spacing_mm,
        shape=grid.image.shape[1:],
        centred=grid.centred,
    )


def _without_image(grid: NetworkGridArgs, channels: int) -> Preprocessed:
    return _preprocessed(grid, np.broadcast_to(np.float32(0), (channels, *grid.shape)))


def _preprocessed(grid: NetworkGridArgs, image: npt.NDArray[np.float32]) -> Preprocessed:
    a, b, c = (bool(reverse) for reverse in grid.reverse)
    edges = list(grid.box)
    return Preprocessed(
        image,
        spacing(grid.spacing_mm),
        Reorientation(triple(grid.axes), (a, b, c)),
        triple(grid.uncropped_shape),
        (slice(*edges[:2]), slice(*edges[2:4]), slice(*edges[4:])),
        spacing(grid.scan_spacing_mm),
        bool(grid.centred),
    )


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
        Logits (C, D, H, W), float32, on the grid of ``prepared.image``.
    threads
        Number of threads; 0 uses every available processor.

    Returns
    -------
    ndarray
        Logits (C, *prepared.cropped_shape), float32.

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


def restore_map(
    values: npt.NDArray[Element], prepared: Preprocessed, *, outside: float = 0
) -> npt.NDArray[Element]:
    """Put a map of the cropped scan, such as labels, at its place in the stored scan.

    Parameters
    ----------
    values
        Map of shape ``prepared.cropped_shape``.
    outside
        Value of the map outside the crop.

    Returns
    -------
    ndarray
        Map (X, Y, Z) in the order in which the scan is stored.

    Raises
    ------
    ValueError
        `values` have another shape.
    """
    _expect_grid(values, prepared.cropped_shape)
    whole, cropped = empty_map(prepared, values.dtype.type, outside=outside)
    cropped[...] = values
    return whole


def empty_map(
    prepared: Preprocessed, dtype: type[Element], *, outside: float = 0
) -> tuple[npt.NDArray[Element], npt.NDArray[Element]]:
    """Make a map of one value in the shape of the stored scan, and a view of its cropped part.

    Returns
    -------
    whole, cropped
        Shape (X, Y, Z) in the order in which the scan is stored, and
        ``prepared.cropped_shape`` along the network's axes.
    """
    turn = prepared.reorientation
    # Zeros take no memory before they are written to.
    shape = prepared.uncropped_shape
    whole = turn.undo(np.full(shape, outside, dtype) if outside else np.zeros(shape, dtype))
    return whole, turn.apply(whole)[prepared.box]


def _expect_grid(array: npt.NDArray[Element], shape: tuple[int, ...]) -> None:
    if array.shape[-3:] != shape:
        raise ValueError(f"the array has spatial shape {array.shape[-3:]}; expected {shape}")
