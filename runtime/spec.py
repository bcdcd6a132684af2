"""Specification of a network's work: preparation and tiling of a scan, meaning of its logits.

Axis triples count depth, height, width after ``transpose_forward``, as nnU-Net does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
GridSpacing = tuple[float | None, float | None, float | None]
"""Millimetres along each axis; None keeps the scan's."""
ResamplingMethod = Literal["spline", "torch", "area", "floor"]
NormalizationScheme = Literal[
    "zscore", "ct", "none", "rescale01", "rescale01_slices", "rgb01", "clip", "zscore_nonzero"
]
Alignment = Literal["borders", "first_voxels", "end_voxels", "centres"]
TilingScheme = Literal["nnunet", "monai"]
Reader = Literal["nibabel", "nibabel_reoriented", "simpleitk", "monai"]


@dataclass(frozen=True)
class Label:
    """A value of the label map and its name."""

    value: int
    name: str


@dataclass(frozen=True)
class Region:
    """An output channel that marks a union of labels and paints `value`."""

    name: str
    labels: tuple[int, ...]
    value: int


@dataclass(frozen=True)
class Normalization:
    """Scaling of one channel's intensities; `mean` to `upper` only for ``ct`` and ``clip``.

    Both clip to `lower` and `upper`, subtract `mean` and divide by `std`; those of ``ct`` are in
    Hounsfield units. ``zscore_nonzero`` scales the channel's nonzero voxels by their own mean and
    deviation and leaves the others zero. ``rescale01`` scales the whole channel to 0..1,
    ``rescale01_slices`` each slice along the first axis on its own.
    """

    scheme: NormalizationScheme
    use_mask: bool = False
    mean: float | None = None
    std: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Resampling:
    """Spline orders; `order_z` is for the coarse axis if that is treated on its own.

    `separate_z` None decides by anisotropy: a ratio of spacings above
    `anisotropy_threshold`. The other values of `method` are PyTorch's, with orders 1 and 0:
    ``torch`` takes places in float32, ``area`` the mean of all voxels that a new one meets, and
    ``floor`` the voxel at or before the place, as PyTorch's ``nearest`` does.

    `alignment` says what coincides of both grids: their outer borders; the centres of their first
    voxels as in MONAI, with exactly the stated spacing; the centres of their first and last
    voxels; or their own centres, which MONAI chooses for some scans and no package states.
    ``area``, ``floor`` and alignments other than borders treat all axes alike.
    """

    order: int = 3
    order_z: int = 0
    separate_z: bool | None = None
    anisotropy_threshold: float = 3.0
    method: ResamplingMethod = "spline"
    alignment: Alignment = "borders"


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of a scan for the network's grid and intensities.

    Attributes
    ----------
    orientation
        Axis codes such as ``RAS`` to which voxels are reoriented first; None keeps the order in
        which the file stores them.
    transpose_forward
        Order of the (z, y, x) axes that the network sees.
    spacing
        Millimetres along the transposed axes, or None to keep the scan's along all of them.
    shape
        Instead of `spacing`: voxels along the transposed axes that every scan is resized to.
    reader
        Reader of the training's scans, which decides the spacing of a scan, see
        :func:`segmaformer.runtime.scans.spacing.training_spacing`; None uses the affine's.
    crop_above
        Instead of `crop_to_nonzero`: crop to the voxels above this intensity in any channel.
    resample_first
        Whether intensities are normalised after resampling, as in MONAI, and not before.
    """

    channels: tuple[str, ...]
    normalization: tuple[Normalization, ...]
    orientation: str | None = "RAS"
    transpose_forward: Triple = (0, 1, 2)
    crop_to_nonzero: bool = True
    spacing: GridSpacing | None = None
    resampling: Resampling = Resampling()
    logits_resampling: Resampling = Resampling(order=1)
    reader: Reader | None = None
    crop_above: float | None = None
    resample_first: bool = False
    shape: Triple | None = None


@dataclass(frozen=True)
class Tiling:
    """Layout of the tiles that cover a volume, and their blending.

    Attributes
    ----------
    step
        Distance of neighbouring tiles as a fraction of the tile: 1 minus their overlap.
        ``nnunet`` takes less to spread tiles evenly, ``monai`` only for the last tile.
    mirror_axes
        Axes that may be mirrored, 0 is depth; a run says which of them are.
    scheme
        Origin of positions and Gaussian weights, see :mod:`segmaformer.runtime.pipeline.tiling`.
    """

    tile: Triple
    step: float = 0.5
    gaussian: bool = True
    mirror_axes: tuple[int, ...] = ()
    scheme: TilingScheme = "nnunet"


@dataclass(frozen=True)
class Output:
    """Meaning of the logits: exclusive labels (softmax) or overlapping regions (sigmoid).

    `interpolated` says what is resampled to the scan's grid before labels are decided.
    """

    labels: tuple[Label, ...]
    regions: tuple[Region, ...] = ()
    interpolated: Literal["logits", "probabilities"] = "logits"

    @property
    def channels(self) -> int:
        """Number of logits for each voxel."""
        return len(self.regions) or len(self.labels)


@dataclass(frozen=True)
class PreviousStage:
    """Labels of a cascade's first network as further channels of its second network's image.

    Attributes
    ----------
    labels
        Values of the first label map. Each has a channel, after those of the scan: 1 where the map
        has that value, else 0.
    resampling
        Resampling of the label map to the second network's grid; orders 0 and 1 alone.
    """

    labels: tuple[int, ...]
    resampling: Resampling = Resampling(order=1)


@dataclass(frozen=True)
class KeepLargest:
    """Step after the network: of the voxels with some labels, only the largest components.

    The voxels of all other components become background, 0.

    Attributes
    ----------
    keep_largest
        Labels whose voxels together form the components.
    components
        Number of components that stay.
    connectivity
        Voxels of a component touch by a face (1), also by an edge (2), also by a corner (3).
    equals_stay
        Whether equally large components all stay, as in nnU-Net. Otherwise those whose first voxel
        comes last in the order (X, Y, Z) of the stored scan are taken, as in MONAI.
    """

    keep_largest: tuple[int, ...]
    components: int = 1
    connectivity: int = 3
    equals_stay: bool = True

    def __str__(self) -> str:
        largest = "component" if self.components == 1 else f"{self.components} components"
        return f"largest {largest} of {' and '.join(map(str, self.keep_largest))}"


Box = tuple[slice, slice, slice]
