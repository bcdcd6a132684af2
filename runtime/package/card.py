"""Card of a package: its manifest in prose, for the people who decide about its use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from segmaformer.runtime.package.manifest import (
    EARLIER_BOUND,
    EXACT_VARIANT,
    Manifest,
    Network,
    Variant,
)
from segmaformer.runtime.spec import Normalization, Preprocessing
from segmaformer.runtime.system.printable import printable, printable_block

_CASCADE = (
    "\n\nThis is a cascade. A first network, in `previous_stage/`, segments the whole scan on a "
    "coarser grid; this one takes its labels as further channels."
)


def model_card(manifest: Manifest) -> str:
    """Return the Markdown text of ``card.md``."""
    network, tiling = manifest.network, manifest.tiling
    of_onnx = str(manifest.variants[EXACT_VARIANT].parity.get("reference", "")).startswith("ONNX")
    program = "ONNX Runtime" if of_onnx else "PyTorch"
    reference = "ONNX Runtime float32 on the given file" if of_onnx else "PyTorch float32"
    sections = [
        f"# {_line(manifest.name)}",
        f"A {network.name} network with {network.parameters:,} parameters, exported on "
        f"{manifest.created} from `{network.checkpoint_file}` "
        f"(SHA-256 `{network.checkpoint_sha256}`).",
        "## Intended use",
        "Research. This is not a medical device: no one has shown that its results are fit for "
        "diagnosis or treatment. A person who knows the anatomy must look at every result.",
        "## Licence",
        _licence(network),
        "## Labels",
        _labels(manifest),
        *_postprocessing(manifest),
        "## Input",
        _input(manifest),
        "## What was checked",
        f"Each variant was loaded by the runtime and compared with {reference} on "
        f"{_line(manifest.verification_tiles)}{_int8_reference(manifest)}. Agreement with "
        f"{program} says nothing about agreement with the truth: that is a property of the "
        "checkpoint.",
        _parity_table(manifest.variants),
        _bound(manifest.variants[EXACT_VARIANT], program),
        *([] if manifest.calibration is None else ["## int8", _int8(manifest.calibration)]),
        "## Limits",
        f"- Tiles are {_by(tiling.tile)} voxels (depth x height x width), the training patch; "
        "results depend on it.\n"
        "- Scans unlike those of the training (modality, field of view, disease) give labels "
        "that look valid and may be wrong.",
        "## Assumptions",
        _bullets(network.assumptions) or "None: the checkpoint states all that is needed.",
        "## Software",
        _bullets(f"{name} {version}" for name, version in manifest.software.items()),
    ]
    return printable_block("\n\n".join(sections)) + "\n"


def _licence(network: Network) -> str:
    if network.licence is None:
        return "Not recorded. Ask whoever trained the network before you pass it or its results on."
    return f"The weights are under: {_line(network.licence)}."


def _int8_reference(manifest: Manifest) -> str:
    return (
        ""
        if manifest.calibration is None
        else (", int8 with fp32 on tiles held out from its calibration")
    )


def _int8(record: dict[str, Any]) -> str:
    """Describe the calibration: its data, method and result."""
    parts = (record["calibration"], record["held_out"])
    taken, held = (f"{part['tiles']} tiles of {len(part['scans'])} scans" for part in parts)
    return _bullets(
        (
            f"ranges of activations by {record['range_method']} from {taken}, seed "
            f"{record['seed']}",
            f"judged on {held}, which calibration did not see: every label has a Dice of at least "
            f"{record['gate']['least_dice']:g} with fp32",
            *map(_line, record["notes"]),
            *(_int8_layers(name, each) for name, each in record["variants"].items()),
            *(_int8_truth(name, each) for name, each in record["variants"].items()),
            "the manifest holds the scans' hashes, the tiles, the scales and each layer's reason",
        )
    )


def _int8_layers(name: str, record: dict[str, Any]) -> str:
    harmful = sum(reason.startswith("too harmful") for reason in record["float32"].values())
    return (
        f"{name}: {len(record['layers'])} layers compute in int8, {len(record['float32'])} in "
        f"float32 ({harmful} of them since int8 harms there), of which "
        f"{len(record['weights_only'])} hold int8 weights"
    )


def _int8_truth(name: str, record: dict[str, Any]) -> str:
    pairs = record.get("dice_with_label_maps", {})
    if not pairs:
        return f"{name}: not compared with label maps"
    before, after = max(pairs.values(), key=lambda pair: pair[0] - pair[1])
    return f"{name}: Dice with label maps {after:.4f} (fp32 {before:.4f}) where it loses most"


def _postprocessing(manifest: Manifest) -> list[str]:
    if not manifest.postprocessing:
        return []
    steps = _bullets(map(str, manifest.postprocessing))
    return ["## After the network", f"Of the label map these stay, in this order:\n\n{steps}"]


def _labels(manifest: Manifest) -> str:
    output = manifest.output
    if not output.regions:
        labels = [(str(label.value), label.name) for label in output.labels]
        return _table(("value", "label"), labels)
    rows = [
        (str(region.value), region.name, ", ".join(map(str, region.labels)))
        for region in output.regions
    ]
    table = _table(("value", "region", "labels of the training that it unites"), rows)
    return f"Overlapping regions, each painted over those above it:\n\n{table}"


def _input(manifest: Manifest) -> str:
    spec = manifest.preprocessing
    rows = [
        f"channel {index}: {_line(name)}, {_normalization(scaling)}"
        for index, (name, scaling) in enumerate(zip(spec.channels, spec.normalization, strict=True))
    ]
    spacing = spacing_text(spec)
    orientation = spec.orientation or "as stored in the file"
    stage = "" if manifest.previous_stage is None else _CASCADE
    return _bullets((*rows, f"spacing {spacing}", f"orientation {orientation}")) + stage


def _normalization(scaling: Normalization) -> str:
    if scaling.scheme not in ("ct", "clip"):
        return f"{scaling.scheme} normalisation" + " inside nonzero voxels" * scaling.use_mask
    return (
        f"clipped to {scaling.lower:g}..{scaling.upper:g}, less {scaling.mean:g}, "
        f"over {scaling.std:g}"
    )


def _parity_table(variants: dict[str, Variant]) -> str:
    head = ("variant", "largest logit error / range", "equal labels", "lowest Dice")
    rows = [
        (
            name,
            f"{variant.parity['relative_error']:.1e}",
            f"{variant.parity['label_agreement']:.4%}",
            f"{min(variant.parity['dice'].values()):.5f}",
        )
        for name, variant in variants.items()
    ]
    return _table(head, rows)


def _bound(exact: Variant, program: str) -> str:
    """Describe the bound that decided over fp32."""
    bound, noise = exact.parity.get("bound", EARLIER_BOUND), exact.parity.get("noise")
    told = f"fp32 had to stay within {bound:.1e} of the range of the logits."
    if noise is not None:
        told += (
            f" {program}'s own float32 is within {noise:.1e} of its finer computation, which fp32 "
            f"is compared with where the two differ ({exact.parity['reference']})."
        )
    scans, error = exact.parity.get("scans"), exact.parity.get("scan_error")
    if scans is not None and error is not None:
        told += (
            f" Its {scans:.0f} selective scans were compared one by one with their definition in "
            f"float64, some channels of each over all steps: the largest error is {error:.1e} of a "
            "scan's range."
        )
    tiles, error = exact.parity.get("recorded_tiles"), exact.parity.get("recorded_error")
    if tiles is not None and error is not None:
        told += (
            f" On {tiles:.0f} recorded tile{'s' * (tiles != 1)} it is within {error:.1e} of the "
            "logits that another machine computed with the network's own packages."
        )
    return told


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_line, cells))} |" for cells in lines)


def _line(text: str) -> str:
    """Return `text` on one line, by :func:`printable`, without the character that ends a cell."""
    return printable(" ".join(text.split())).replace("|", r"\|")


def spacing_text(spec: Preprocessing) -> str:
    """Return the spacing of a network's grid, such as ``the scan's x 0.8 x 0.8 mm``."""
    if spec.shape is not None:
        return f"that of {_by(spec.shape)} voxels"
    if spec.spacing is None:
        return "the scan's own"
    steps = ("the scan's" if step is None else f"{step:g}" for step in spec.spacing)
    return f"{' x '.join(steps)} mm"


def _by(extents: tuple[float, ...]) -> str:
    return " x ".join(f"{extent:g}" for extent in extents)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
