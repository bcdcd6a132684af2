"""Manifest of a package: its network, the network's needs, and its verified figures.

The dataclasses are the schema. Reading checks every field and names a wrong one; writing gives
plain JSON. Unknown fields are refused, except from a newer minor version (``format_version``
1.x), where they are ignored.
Axis triples count depth, height, width after ``transpose_forward``, as nnU-Net does.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.codes import LabelCodes, code_complaints
from segmaformer.runtime.package.signatures import SIGNATURE_FILE
from segmaformer.runtime.package.typed_json import build, build_value, load_json_object
from segmaformer.runtime.spec import (
    KeepLargest,
    Normalization,
    Output,
    Preprocessing,
    PreviousStage,
    Resampling,
    Tiling,
)

FORMAT_VERSION = "1.0"
LARGEST_LABEL = 65535
"""Largest value of a label; label maps are uint8 or uint16."""
MOST_TILE_VOXELS = 2**31 - 1
"""Largest number of voxels in a tile; no backend takes larger tensors."""
MOST_LICENCE = 200
"""Largest number of characters of a licence's name that export takes."""
EXACT_VARIANT = "fp32"
"""Variant that every package has; the others are judged by it."""
PREVIOUS_STAGE = "previous_stage"
"""Folder of a cascade's first network, a package of its own, in the package of the second."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Network:
    """Architecture, its full configuration and the origin of its weights."""

    name: str
    config: dict[str, Any]
    parameters: int
    checkpoint_file: str
    checkpoint_sha256: str
    trainer: str | None = None
    assumptions: tuple[str, ...] = ()
    licence: str | None = None


_FIGURES: dict[str, Any] = {
    "relative_error": float,
    "label_agreement": float,
    "scans": float,
    "scan_error": float,
    "recorded_tiles": float,
    "recorded_error": float,
    "dice": dict[str, float],
}
"""Figures of a variant's parity, with their types."""


@dataclass(frozen=True)
class Variant:
    """One precision of the network.

    Attributes
    ----------
    precision
        Element type for each kind of operator, and for single layers that differ.
    parity
        Figures of the check against PyTorch, see :mod:`segmaformer.runtime.parity`.
    """

    file: str
    precision: dict[str, str]
    parity: dict[str, Any]


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file of the package."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime needs to know about a package.

    Attributes
    ----------
    codes
        DICOM codes by the names of labels, or of regions if there are any; some may lack theirs.
    previous_stage
        For a cascade: its first network, the package in :data:`PREVIOUS_STAGE`, as this one sees
        it. Everything else here is of the second network.
    postprocessing
        Steps on the label map of the scan's grid, in this order.
    release
        Number among the packages of this name; a trusted key can refuse those before one.
    """

    name: str
    network: Network
    preprocessing: Preprocessing
    tiling: Tiling
    output: Output
    variants: dict[str, Variant]
    verification_tiles: str
    software: dict[str, str]
    created: str
    files: dict[str, FileRecord] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    codes: dict[str, LabelCodes] = field(default_factory=dict)
    previous_stage: PreviousStage | None = None
    postprocessing: tuple[KeepLargest, ...] = ()
    release: int | None = None
    format_version: str = FORMAT_VERSION

    @property
    def masks(self) -> int:
        """Number of channels that are masks of the previous stage's labels; 0 without one."""
        return 0 if self.previous_stage is None else len(self.previous_stage.labels)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape (C, D, H, W) of a tile: channels of the scan, then the masks."""
        return len(self.preprocessing.channels) + self.masks, *self.tiling.tile

    @property
    def logits_shape(self) -> tuple[int, int, int, int]:
        """Shape (K, D, H, W) of a tile's logits."""
        return self.output.channels, *self.tiling.tile

    def to_json(self) -> str:
        """Return indented JSON; :func:`parse_manifest` reads it back to an equal object.

        Raises
        ------
        ValueError
            A number is NaN or infinite.
        """
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"


def parse_manifest(text: str | bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    PackageError
        The text is no JSON, of an unknown major version, or has a field that is missing, unknown,
        of the wrong type or in contradiction to another.
    """
    document = load_json_object(text, "manifest.json")
    newer = _is_newer(document.get("format_version"))
    manifest = build(Manifest, document, "manifest", ignore_unknown=newer)
    _check_figures(manifest)
    complaints = "; ".join(_complaints(manifest))
    if complaints:
        raise PackageError(f"manifest.json contradicts itself: {complaints}")
    return manifest


def _check_figures(manifest: Manifest) -> None:
    """Check the parts of free-form records that are read again."""
    for name, variant in manifest.variants.items():
        where = f"manifest.variants.{name}.parity"
        for key, kind in _FIGURES.items():
            if variant.parity.get(key) is not None:
                build_value(kind, variant.parity[key], f"{where}.{key}")
    if manifest.calibration is not None and "variants" in manifest.calibration:
        build_value(
            dict[str, Any], manifest.calibration["variants"], "manifest.calibration.variants"
        )


def _is_newer(version: Any) -> bool:
    """Tell if the manifest is of a newer minor version; refuse other major ones."""
    found = re.fullmatch(r"([0-9]{1,6})\.([0-9]{1,6})", version) if type(version) is str else None
    if found is None:
        raise PackageError(
            f"manifest.json has the format_version {version!r:.80}; expected '{FORMAT_VERSION}'"
        )
    major, minor = (int(part) for part in FORMAT_VERSION.split("."))
    if int(found[1]) != major:
        raise PackageError(
            f"the package has format version {version}, this segmaformer reads {major}.x; "
            + ("export it again" if int(found[1]) < major else "install a newer segmaformer")
        )
    return int(found[2]) > minor


def _complaints(manifest: Manifest) -> Iterator[str]:
    """List well-formed values that make no sense."""
    yield from use_complaints(manifest.preprocessing, manifest.tiling, manifest.output)
    yield from code_complaints(manifest.codes, manifest.output)
    yield from _postprocessing_complaints(manifest)
    yield from _file_complaints(manifest)
    if manifest.previous_stage is not None:
        yield from _stage_complaints(manifest.previous_stage, manifest)


def use_complaints(preprocessing: Preprocessing, tiling: Tiling, output: Output) -> Iterator[str]:
    """List well-formed values of a network's use that make no sense."""
    yield from _preprocessing_complaints(preprocessing)
    yield from _tiling_complaints(tiling)
    yield from _output_complaints(output)
    if output.interpolated == "probabilities" and preprocessing.logits_resampling.order > 1:
        yield "output.interpolated is probabilities; expected splines of order 0 or 1"


def _preprocessing_complaints(spec: Preprocessing) -> Iterator[str]:
    if not spec.channels:
        yield "preprocessing.channels is empty"
    if len(spec.normalization) != len(spec.channels):
        yield (
            f"preprocessing.normalization has {len(spec.normalization)} entries "
            f"for {len(spec.channels)} channels"
        )
    for index, normalization in enumerate(spec.normalization):
        if normalization.scheme in ("ct", "clip") and not _is_complete(normalization):
            yield (
                f"preprocessing.normalization[{index}] is {normalization.scheme}; expected mean, "
                "std above zero, and lower below upper"
            )
        if spec.resample_first and normalization.use_mask:
            yield (
                f"preprocessing.normalization[{index}] is in a mask, which resample_first does "
                "not allow"
            )
    if spec.orientation is not None and not _is_orientation(spec.orientation):
        yield f"preprocessing.orientation is {spec.orientation!r}; expected letters such as RAS"
    if sorted(spec.transpose_forward) != [0, 1, 2]:
        yield f"preprocessing.transpose_forward is {spec.transpose_forward}; expected 0, 1 and 2"
    if any(step is not None and step <= 0 for step in spec.spacing or ()):
        yield f"preprocessing.spacing is {spec.spacing}; expected millimetres above zero"
    if spec.crop_above is not None and spec.crop_to_nonzero:
        yield "preprocessing has crop_above beside crop_to_nonzero"
    yield from _resampling_complaints(spec)


_ANY_AXIS = (("borders", "spline"), ("borders", "torch"))
"""Alignment and method that may treat one axis on its own."""


def _resampling_complaints(spec: Preprocessing) -> Iterator[str]:
    for name in ("resampling", "logits_resampling"):
        resampling: Resampling = getattr(spec, name)
        if not (0 <= resampling.order <= 5 and 0 <= resampling.order_z <= 5):
            yield f"preprocessing.{name} has a spline order outside 0 to 5"
        if resampling.alignment == "centres":
            yield f"preprocessing.{name} aligns centres, which single scans alone do"
        whole = resampling.order <= 1 and resampling.separate_z is False
        if (resampling.alignment, resampling.method) not in _ANY_AXIS and not whole:
            yield (
                f"preprocessing.{name} aligns {resampling.alignment} by {resampling.method}; "
                "expected an order of 0 or 1 and separate_z false"
            )
        if resampling.method != "spline" and max(resampling.order, resampling.order_z) > 1:
            yield (
                f"preprocessing.{name} has an order above 1, which the method "
                f"{resampling.method} lacks"
            )
    first_voxels = spec.resampling.alignment == "first_voxels"
    if first_voxels != (spec.logits_resampling.alignment == "first_voxels"):
        yield "preprocessing aligns the grids of image and logits in two ways"
    if spec.shape is None:
        return
    if min(spec.shape) < 1:
        yield f"preprocessing.shape is {spec.shape}; expected voxels above zero"
    if spec.spacing is not None or first_voxels:
        yield "preprocessing.shape comes with spacing or aligned first voxels"


def _is_complete(n: Normalization) -> bool:
    if n.mean is None or n.std is None or n.lower is None or n.upper is None:
        return False
    return n.std > 0 and n.lower < n.upper


def _is_orientation(codes: str) -> bool:
    return len(codes) == 3 and all(set(codes) & set(pair) for pair in ("LR", "PA", "IS"))


def _tiling_complaints(tiling: Tiling) -> Iterator[str]:
    if min(tiling.tile) <= 0:
        yield f"tiling.tile is {tiling.tile}; expected voxels above zero"
    elif math.prod(tiling.tile) > MOST_TILE_VOXELS:
        yield f"tiling.tile is {tiling.tile}; expected at most {MOST_TILE_VOXELS} voxels in all"
    if not 0 < tiling.step <= 1:
        yield f"tiling.step is {tiling.step}; expected a part of the tile, above 0 and at most 1"
    axes = tiling.mirror_axes
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        yield f"tiling.mirror_axes is {axes}; expected some of 0, 1 and 2, each once"


def _output_complaints(output: Output) -> Iterator[str]:
    values = [label.value for label in output.labels]
    found = f"output.labels have the values {values}"
    if len(set(values)) < len(values) or not all(0 <= value <= LARGEST_LABEL for value in values):
        yield f"{found}; expected different ones from 0 to {LARGEST_LABEL}"
    if not output.regions and (len(values) < 2 or values != list(range(len(values)))):
        yield f"{found}; expected 0, 1 and so on where there are no regions"
    for index, region in enumerate(output.regions):
        if region.value == 0 or region.value not in values:
            yield f"output.regions[{index}] paints {region.value}, which is no label above 0"


def _stage_complaints(stage: PreviousStage, manifest: Manifest) -> Iterator[str]:
    values = stage.labels
    if not values or len(set(values)) < len(values) or min(values) < 1:
        yield f"previous_stage.labels are {values}; expected different ones above 0"
    if stage.resampling.order > 1 or stage.resampling.order_z != 0:
        yield "previous_stage.resampling is no order 0 or 1 with order_z 0"
    if f"{PREVIOUS_STAGE}/manifest.json" not in manifest.files:
        yield f"files does not list {PREVIOUS_STAGE}/manifest.json, the package of previous_stage"


def _postprocessing_complaints(manifest: Manifest) -> Iterator[str]:
    values = {label.value for label in manifest.output.labels} - {0}
    for index, step in enumerate(manifest.postprocessing):
        if not step.keep_largest or not set(step.keep_largest) <= values:
            yield (
                f"postprocessing[{index}] keeps {list(step.keep_largest)}; expected some of the "
                f"labels {sorted(values)}"
            )
        if not (1 <= step.components <= LARGEST_LABEL and 1 <= step.connectivity <= 3):
            yield (
                f"postprocessing[{index}] keeps {step.components} components of connectivity "
                f"{step.connectivity}; expected 1 to {LARGEST_LABEL}, and 1 to 3"
            )


def _file_complaints(manifest: Manifest) -> Iterator[str]:
    if EXACT_VARIANT not in manifest.variants:
        yield f"variants lacks {EXACT_VARIANT}"
    for name, variant in manifest.variants.items():
        if variant.file not in manifest.files:
            yield f"files does not list {variant.file!r}, the file of variant {name!r}"
    if SIGNATURE_FILE in manifest.files:
        yield f"files lists {SIGNATURE_FILE}, which signs the manifest"
    for name, record in manifest.files.items():
        if not _PLAIN_NAME.fullmatch(name):
            yield f"files lists {name!r:.80}, which may lead out of the package"
        if not _SHA256.fullmatch(record.sha256) or record.size < 0:
            yield f"files has no proper sha256 and size for {name!r:.80}"


EARLIER_BOUND = 1e-4
"""Bound for packages that do not record theirs."""
