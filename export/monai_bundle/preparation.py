"""Translation of a bundle's preprocessing into the native pipeline's specification.

Only what the pipeline computes exactly as MONAI does is taken; everything else is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from segmaformer.checkpoint.fields import number, triple
from segmaformer.export.monai_bundle.arguments import Transform
from segmaformer.runtime.spec import (
    Alignment,
    Normalization,
    Preprocessing,
    Resampling,
    Spacing,
    Triple,
)

XYZ = (2, 1, 0)
"""Order of the network's axes: MONAI's volumes are stored x, y, z."""
GRID = Resampling(order=1, order_z=1, separate_z=False, alignment="first_voxels")
"""Interpolation of ``Spacing``: linear, its first voxel at the scan's first."""
NEAREST_OF_SIZE = Resampling(order=0, order_z=0, separate_z=False, method="floor")
"""Interpolation of ``Resize`` to the nearest, as PyTorch counts it."""
_BEYOND = 3e38
"""Bound of intensities that are not clipped."""


@dataclass(frozen=True)
class Preparation:
    """Preprocessing of a bundle as far as it was read.

    Attributes
    ----------
    key
        Key of the image in MONAI's dictionaries.
    shape, grid
        Voxels that ``Resize`` makes of every scan, and the interpolation of that or of ``Spacing``.
    scaling
        Scaling of each channel; None before any.
    zero
        Intensity that the scaling so far makes zero; None if that is unknown.
    """

    key: str | None = None
    orientation: str | None = None
    spacing: Spacing | None = None
    shape: Triple | None = None
    grid: Resampling = GRID
    crop_above: float | None = None
    scaling: Normalization | None = None
    zero: float | None = 0.0
    resample_first: bool = False

    @property
    def resampler(self) -> str | None:
        """Name of the transform that changed the grid; None before any."""
        if self.spacing is not None:
            return "Spacing"
        return None if self.shape is None else "Resize"

    def specification(self, channels: tuple[str, ...], *, modality: str) -> Preprocessing:
        """Return the specification for named channels."""
        scaling = self.scaling or Normalization("none")
        if modality.upper() == "CT" and scaling.scheme == "clip":
            scaling = dataclasses.replace(scaling, scheme="ct")
        return Preprocessing(
            channels=channels,
            normalization=(scaling,) * len(channels),
            orientation=self.orientation,
            transpose_forward=XYZ,
            crop_to_nonzero=False,
            crop_above=self.crop_above,
            spacing=self.spacing,
            resampling=self.grid,
            logits_resampling=self.grid,
            shape=self.shape,
            resample_first=self.resample_first,
            reader="monai",
        )


def read_preparation(transforms: Iterable[Transform], channels: int) -> Preparation:
    """Follow the transforms of a bundle's preprocessing.

    Parameters
    ----------
    channels
        Number of channels of the network's input.

    Raises
    ------
    InputError
        A transform, an argument or an order of them cannot be honoured exactly.
    """
    found = Preparation()
    for transform in transforms:
        step = _STEPS.get(transform.name)
        if step is None:
            raise transform.refused(
                f"cannot be honoured exactly; of preprocessing {', '.join(sorted(_STEPS))} can"
            )
        key = transform.key()
        if None not in (key, found.key) and key != found.key:
            raise transform.refused(f"works on {key!r}; expected {found.key!r}, the scan's key")
        found = step(dataclasses.replace(found, key=found.key or key), transform, channels)
        transform.finish()
    return found


def _load(found: Preparation, transform: Transform, channels: int) -> Preparation:
    transform.expect("reader", "NibabelReader", "nibabelreader")
    transform.expect("dtype", "float32")
    transform.ignore("image_only", "ensure_channel_first", "meta_keys", "meta_key_postfix")
    transform.ignore("simple_keys", "prune_meta_pattern", "prune_meta_sep", "overwriting")
    return found


def _channel_first(found: Preparation, transform: Transform, channels: int) -> Preparation:
    transform.expect("channel_dim", "no_channel")
    transform.ignore("strict_check")
    return found


def _type(found: Preparation, transform: Transform, channels: int) -> Preparation:
    transform.expect("dtype", "float32")
    transform.ignore("data_type", "device", "wrap_sequence", "track_meta")
    return found


def _orient(found: Preparation, transform: Transform, channels: int) -> Preparation:
    if found.orientation is not None or found.resampler:
        raise transform.refused(
            "follows Spacing, Resize or another Orientation; expected it before them"
        )
    transform.expect("labels")
    canonical = transform.flag("as_closest_canonical")
    codes = transform.take("axcodes")
    codes = "RAS" if canonical else codes
    if isinstance(codes, list):
        codes = "".join(map(str, codes))
    if not isinstance(codes, str):
        raise transform.refused(f"has axcodes {codes!r}; expected letters such as RAS")
    return dataclasses.replace(found, orientation=codes)


def _space(found: Preparation, transform: Transform, channels: int) -> Preparation:
    if found.resampler:
        raise transform.refused(f"follows {found.resampler}; expected one change of the grid")
    transform.expect("mode", "bilinear")
    transform.expect("padding_mode", "border")
    transform.expect("dtype", "float64")
    transform.expect("align_corners", True, False)  # both put a voxel at the same place
    for name in ("diagonal", "scale_extent", "recompute_affine"):
        transform.expect(name, False)
    for name in ("min_pixdim", "max_pixdim"):
        transform.expect(name)
    transform.ignore("ensure_same_shape")
    pixdim = transform.take("pixdim")
    edges = pixdim if isinstance(pixdim, list) else [pixdim] * 3
    x, y, z = (number(edge, f"{transform.where}.pixdim") for edge in (*edges, *edges[-1:] * 3)[:3])
    if min(x, y, z) <= 0:
        raise transform.refused(f"has pixdim {pixdim}; expected millimetres above zero")
    return dataclasses.replace(found, spacing=(x, y, z))


_SIZE_METHODS = {
    "area": Resampling(order=0, order_z=0, separate_z=False, method="area"),
    "nearest": NEAREST_OF_SIZE,
    "nearest-exact": Resampling(order=0, order_z=0, separate_z=False, method="torch"),
}
"""Interpolation by the modes of ``Resize`` that have no corners to align."""


def _resize(found: Preparation, transform: Transform, channels: int) -> Preparation:
    if found.resampler:
        raise transform.refused(f"follows {found.resampler}; expected one change of the grid")
    transform.expect("size_mode", "all")
    transform.expect("anti_aliasing", False)
    transform.expect("anti_aliasing_sigma")
    transform.expect("dtype", "float32")
    size = transform.take("spatial_size")
    shape = triple(
        size if isinstance(size, list) else [size] * 3, f"{transform.where}.spatial_size"
    )
    mode, corners = transform.take("mode", "area"), transform.take("align_corners")
    if mode in ("linear", "bilinear", "trilinear") and corners in (None, False, True):
        alignment: Alignment = "end_voxels" if corners else "borders"
        grid = Resampling(1, 1, separate_z=False, method="torch", alignment=alignment)
    elif mode in _SIZE_METHODS and corners is None:
        grid = _SIZE_METHODS[mode]
    else:
        raise transform.refused(
            f"has mode {mode!r} and align_corners {corners!r}; expected trilinear, or area or "
            "nearest without align_corners"
        )
    return dataclasses.replace(found, shape=shape, grid=grid)


def _range(found: Preparation, transform: Transform, channels: int) -> Preparation:
    transform.expect("dtype", "float32")
    low, high = transform.number("a_min"), transform.number("a_max")
    target = transform.take("b_min"), transform.take("b_max")
    clip = transform.flag("clip")
    if low >= high:
        raise transform.refused(f"has the range {low:g} to {high:g}; expected a_min below a_max")
    if None in target and (clip or target != (None, None)):
        raise transform.refused("has b_min or b_max alone, or clips to neither; expected both")
    bottom, top = (0.0, 1.0) if target[0] is None else (number(b, transform.where) for b in target)
    if bottom >= top:
        raise transform.refused(f"has the target {bottom:g} to {top:g}; expected b_min below b_max")
    unit = (high - low) / (top - bottom)
    scaling = Normalization(
        "clip",
        mean=low - bottom * unit,
        std=unit,
        lower=low if clip else -_BEYOND,
        upper=high if clip else _BEYOND,
    )
    return _scaled(found, transform, scaling, zero=low if bottom == 0 else None)


def _scale(found: Preparation, transform: Transform, channels: int) -> Preparation:
    transform.expect("dtype", "float32")
    transform.expect("factor")
    for name, value in (("minv", 0), ("maxv", 1)):
        transform.expect(name, value, float(value))
    if not transform.flag("channel_wise") and channels > 1:
        raise transform.refused("scales all channels together; only channel_wise can be honoured")
    return _scaled(found, transform, Normalization("rescale01"), zero=None)


def _normalize(found: Preparation, transform: Transform, channels: int) -> Preparation:
    transform.expect("dtype", "float32")
    nonzero, channel_wise = transform.flag("nonzero"), transform.flag("channel_wise")
    if nonzero and found.resampler:
        raise transform.refused(
            f"takes nonzero voxels after {found.resampler}, which cannot be honoured exactly: "
            "rounding in MONAI's interpolation decides which voxels of the background are zero"
        )
    stated = transform.take("subtrahend"), transform.take("divisor")
    if stated != (None, None):
        if nonzero or channel_wise or not all(type(each) in (int, float) for each in stated):
            raise transform.refused("has a subtrahend or divisor; expected one number for each")
        mean, std = (number(each, transform.where) for each in stated)
        if std <= 0:
            raise transform.refused(f"has divisor {std:g}; expected it above zero")
        fixed = Normalization("clip", mean=mean, std=std, lower=-_BEYOND, upper=_BEYOND)
        return _scaled(found, transform, fixed, zero=mean)
    if channels > 1 and not channel_wise:
        raise transform.refused("scales all channels together; only channel_wise can be honoured")
    if found.scaling == Normalization("rescale01") and not nonzero:
        # A z-score is the same before and after a linear map, with which interpolation commutes.
        found = dataclasses.replace(found, scaling=None)
    scheme = Normalization("zscore_nonzero" if nonzero else "zscore")
    return _scaled(found, transform, scheme, zero=None)


def _scaled(
    found: Preparation, transform: Transform, scaling: Normalization, *, zero: float | None
) -> Preparation:
    if found.scaling is not None:
        raise transform.refused("follows another scaling of intensities; expected one")
    return dataclasses.replace(
        found, scaling=scaling, zero=zero, resample_first=found.resampler is not None
    )


def _crop(found: Preparation, transform: Transform, channels: int) -> Preparation:
    source = transform.key("source_key")
    if source not in (None, found.key):
        raise transform.refused(f"takes its foreground from {source!r}; expected {found.key!r}")
    transform.expect("select_fn", "positive")
    transform.expect("channel_indices")
    transform.expect("margin", 0)
    transform.expect("k_divisible", 1)
    transform.ignore("allow_smaller", "mode", "start_coord_key", "end_coord_key", "return_coords")
    if found.crop_above is not None:
        raise transform.refused("follows another CropForeground; expected one")
    if found.resampler:
        raise transform.refused(
            f"follows {found.resampler}: its foreground is that of the resampled scan, which the "
            "pipeline does not cut"
        )
    if found.zero is None:
        raise transform.refused(
            "follows a scaling of intensities that decides where the foreground is; expected it "
            "before that, or ScaleIntensityRange with b_min 0"
        )
    return dataclasses.replace(found, crop_above=found.zero)


_STEPS: dict[str, Callable[[Preparation, Transform, int], Preparation]] = {
    "LoadImage": _load,
    "EnsureChannelFirst": _channel_first,
    "EnsureType": _type,
    "ToTensor": _type,
    "Orientation": _orient,
    "Spacing": _space,
    "Resize": _resize,
    "ScaleIntensityRange": _range,
    "ScaleIntensity": _scale,
    "NormalizeIntensity": _normalize,
    "CropForeground": _crop,
}
