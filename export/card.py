"""The package's card: its manifest in words, for the people who decide about its use."""

from __future__ import annotations

from segmaformer.runtime.manifest import Manifest, Normalization, Variant


def model_card(manifest: Manifest) -> str:
    """Markdown text of ``card.md``."""
    network, tiling = manifest.network, manifest.tiling
    sections = [
        f"# {manifest.name}",
        f"A {network.name} network with {network.parameters:,} parameters, exported on "
        f"{manifest.created} from `{network.checkpoint_file}` "
        f"(SHA-256 `{network.checkpoint_sha256}`).",
        "## Intended use",
        "Research. This is not a medical device: no one has shown that its results are fit for "
        "diagnosis or treatment. A person who knows the anatomy must look at every result.",
        "## Labels",
        _labels(manifest),
        "## Input",
        _input(manifest),
        "## What was checked",
        f"Each variant was loaded by the runtime and compared with PyTorch float32 on "
        f"{manifest.verification_tiles}. Agreement with PyTorch says nothing about agreement "
        "with the truth: that is a property of the checkpoint.",
        _parity_table(manifest.variants),
        "## Limits",
        f"- Tiles are {_by(tiling.tile)} voxels, the training patch; results depend on it.\n"
        "- Scans unlike those of the training (modality, field of view, disease) give labels "
        "that look valid and may be wrong.",
        "## Assumptions",
        _bullets(network.assumptions) or "None: the checkpoint states all that is needed.",
        "## Software",
        _bullets(tuple(f"{name} {version}" for name, version in manifest.software.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _labels(manifest: Manifest) -> str:
    output = manifest.output
    if not output.regions:
        rows = [f"| {label.value} | {label.name} |" for label in output.labels]
        return "\n".join(["| value | label |", "|---|---|", *rows])
    rows = [
        f"| {region.value} | {region.name} | {', '.join(map(str, region.labels))} |"
        for region in output.regions
    ]
    return "\n".join(
        ["Overlapping regions, painted in this order:", "", "| value | region | labels |"]
        + ["|---|---|---|", *rows]
    )


def _input(manifest: Manifest) -> str:
    spec = manifest.preprocessing
    rows = [
        f"- channel {index}: {name}, {_normalization(scaling)}"
        for index, (name, scaling) in enumerate(zip(spec.channels, spec.normalization, strict=True))
    ]
    spacing = "the scan's own" if spec.spacing is None else _by(spec.spacing) + " mm"
    orientation = spec.orientation or "as stored in the file"
    return "\n".join([*rows, f"- spacing {spacing}", f"- orientation {orientation}"])


def _normalization(scaling: Normalization) -> str:
    if scaling.scheme != "ct":
        return f"{scaling.scheme} normalisation" + (" inside nonzero voxels" * scaling.use_mask)
    return (
        f"clipped to {scaling.lower:g}..{scaling.upper:g}, less {scaling.mean:g}, "
        f"over {scaling.std:g}"
    )


def _parity_table(variants: dict[str, Variant]) -> str:
    rows = [
        f"| {name} | {v.parity['relative_error']:.1e} | {v.parity['label_agreement']:.4%} "
        f"| {min(v.parity['dice'].values()):.5f} |"
        for name, v in variants.items()
    ]
    head = "| variant | largest logit error / range | equal labels | lowest Dice |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def _by(extents: tuple[float, ...]) -> str:
    return " x ".join(f"{extent:g}" for extent in extents)


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)
