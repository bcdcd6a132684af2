"""The manifest of a package: what the network is, needs and was shown to compute.

The dataclasses are the schema. Reading checks every field and names the one that is
wrong; writing gives plain JSON. Fields that this version does not know are refused
within a known minor version and ignored from a newer one (``format_version`` 1.x).
Axis triples count depth, height, width after ``transpose_forward``, as nnU-Net does.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from segmaformer.runtime.errors import PackageError

FORMAT_VERSION = "1.0"

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
NormalizationScheme = Literal["zscore", "ct", "none", "rescale01", "rgb01"]


@dataclass(frozen=True)
class Network:
    """Architecture, its full configuration and where the weights came from."""

    name: str
    config: dict[str, Any]
    parameters: int
    checkpoint_file: str
    checkpoint_sha256: str
    trainer: str | None = None
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Label:
    """A value of the label map."""

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
    """How one channel's intensities are scaled; `mean` to `upper` only for ``ct``."""

    scheme: NormalizationScheme
    use_mask: bool = False
    mean: float | None = None
    std: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Resampling:
    """Spline orders; `order_z` along the coarse axis where it is treated on its own.

    `separate_z` None decides by anisotropy: a ratio of spacings above
    `anisotropy_threshold`.
    """

    order: int = 3
    order_z: int = 0
    separate_z: bool | None = None
    anisotropy_threshold: float = 3.0


@dataclass(frozen=True)
class Preprocessing:
    """From a scan to the network's grid and intensities.

    Attributes
    ----------
    orientation
        Axis codes such as ``RAS`` that voxels are brought to first, or None to
        take them in the order in which the file stores them.
    transpose_forward
        Order of the (z, y, x) axes that the network sees.
    spacing
        Millimetres along the transposed axes, or None to keep the scan's.
    """

    channels: tuple[str, ...]
    normalization: tuple[Normalization, ...]
    orientation: str | None = "RAS"
    transpose_forward: Triple = (0, 1, 2)
    crop_to_nonzero: bool = True
    spacing: Spacing | None = None
    resampling: Resampling = Resampling()
    logits_resampling: Resampling = Resampling(order=1)


@dataclass(frozen=True)
class Tiling:
    """How tiles cover the volume and are blended.

    Attributes
    ----------
    step
        Distance of neighbouring tiles as a fraction of the tile: 1 minus their overlap.
        ``nnunet`` takes less to spread tiles evenly, ``monai`` only for the last tile.
    scheme
        Whose positions and Gaussian weights, see :mod:`segmaformer.runtime.tiling`.
    """

    tile: Triple
    step: float = 0.5
    gaussian: bool = True
    mirror_axes: tuple[int, ...] = ()
    scheme: TilingScheme = "nnunet"


@dataclass(frozen=True)
class Output:
    """Meaning of the logits: exclusive labels (softmax) or overlapping regions (sigmoid)."""

    labels: tuple[Label, ...]
    regions: tuple[Region, ...] = ()

    @property
    def channels(self) -> int:
        """Number of logits for each voxel."""
        return len(self.regions) or len(self.labels)


@dataclass(frozen=True)
class Variant:
    """One precision of the network.

    Attributes
    ----------
    precision
        Element type for each kind of operator, and for single layers that differ.
    parity
        What the check against the PyTorch reference measured, see ``export.parity``.
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
    """Everything the runtime needs to know about a package."""

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
    format_version: str = FORMAT_VERSION

    def to_json(self) -> str:
        """Indented JSON; :func:`parse_manifest` reads it back to an equal object."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def parse_manifest(text: str | bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    PackageError
        Not JSON, an unknown major version, or a field that is missing, surplus, of
        the wrong type or in contradiction to another.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise PackageError(f"manifest.json is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PackageError("manifest.json must hold one JSON object")
    newer = _check_version(document.get("format_version"))
    manifest: Manifest = _build(Manifest, document, "manifest", newer)
    _check_consistency(manifest)
    return manifest


def _check_version(version: Any) -> bool:
    """Whether the manifest is of a newer minor version; refuses other major ones."""
    major, minor = (int(part) for part in FORMAT_VERSION.split("."))
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise PackageError(f"format_version {version!r} is not of the form '{FORMAT_VERSION}'")
    if int(parts[0]) != major:
        raise PackageError(
            f"the package has format version {version}, this segmaformer reads {major}.x; "
            + ("export it again" if int(parts[0]) < major else "install a newer segmaformer")
        )
    return int(parts[1]) > minor


def _build(kind: Any, value: Any, where: str, lenient: bool) -> Any:
    """Convert JSON `value` to the annotated type `kind`, or say what is wrong at `where`."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where, lenient)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _build(inner, value, where, lenient)
    if origin is Literal:
        return _expect(value in arguments, value, where, value, f"one of {arguments}")
    if origin is dict:
        _expect(isinstance(value, dict), value, where, value, "an object")
        return {key: _build(arguments[1], item, f"{where}.{key}", lenient) for key, item in value.items()}
    if origin is tuple:
        _expect(isinstance(value, list), value, where, value, "a list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        _expect(len(kinds) == len(value), value, where, value, f"{len(kinds)} entries")
        return tuple(
            _build(item_kind, item, f"{where}[{index}]", lenient)
            for index, (item_kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if kind is Any:
        return value
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_expect(number and abs(value) < float("inf"), value, where, value, "a number"))
    exact = type(value) is kind
    return _expect(exact, value, where, value, kind.__name__)


def _build_dataclass(kind: Any, value: Any, where: str, lenient: bool) -> Any:
    _expect(isinstance(value, dict), value, where, value, "an object")
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    surplus = sorted(set(value) - set(fields))
    if surplus and not lenient:
        raise PackageError(f"{where} has unknown fields: {', '.join(surplus)}")
    missing = [
        name
        for name, entry in fields.items()
        if name not in value
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise PackageError(f"{where} lacks {', '.join(missing)}")
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            name: _build(hints[name], value[name], f"{where}.{name}", lenient)
            for name in fields
            if name in value
        }
    )


def _expect(condition: bool, result: Any, where: str, found: Any, expected: str) -> Any:
    if not condition:
        raise PackageError(f"{where} is {found!r}; expected {expected}")
    return result


def _check_consistency(manifest: Manifest) -> None:
    """Refuse fields that are well-formed and yet cannot be meant together."""
    channels = len(manifest.preprocessing.channels)
    checks = (
        (channels >= 1, "preprocessing.channels is empty"),
        (
            len(manifest.preprocessing.normalization) == channels,
            "preprocessing.normalization needs one entry for each channel",
        ),
        (
            sorted(manifest.preprocessing.transpose_forward) == [0, 1, 2],
            "preprocessing.transpose_forward must be a permutation of 0, 1, 2",
        ),
        (
            manifest.preprocessing.spacing is None or min(manifest.preprocessing.spacing) > 0,
            "preprocessing.spacing must be positive",
        ),
        (min(manifest.tiling.tile) > 0, "tiling.tile must be positive"),
        (0 < manifest.tiling.step <= 1, "tiling.step must lie in (0, 1]"),
        (set(manifest.tiling.mirror_axes) <= {0, 1, 2}, "tiling.mirror_axes must be among 0, 1, 2"),
        (
            bool(manifest.output.regions)
            or [label.value for label in manifest.output.labels]
            == list(range(len(manifest.output.labels))),
            "output.labels must count up from 0 where there are no regions",
        ),
        ("fp32" in manifest.variants, "variants lacks fp32"),
        (
            all(variant.file in manifest.files for variant in manifest.variants.values()),
            "a variant's file is not listed in files",
        ),
        (
            all(
                n.scheme != "ct" or None not in (n.mean, n.std, n.lower, n.upper)
                for n in manifest.preprocessing.normalization
            ),
            "ct normalisation needs mean, std, lower and upper",
        ),
    )
    for good, complaint in checks:
        if not good:
            raise PackageError(f"manifest.json: {complaint}")
