"""``sgmf inspect``: describe a package or a checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import print_json, print_line
from segmaformer.cli.package_parameters import PackagePath, open_package, trust_options
from segmaformer.cli.parameters import json_option, weights_option
from segmaformer.runtime.package.codes import LabelCodes
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.system.extras import require_extra


@click.command("inspect")
@click.argument("path", type=PackagePath(exists=True, path_type=Path))
@weights_option
@trust_options
@json_option
def command(path: Path, weights: str | None, as_json: bool) -> None:
    """Show the contents of the package or checkpoint at PATH, or of the model of that name."""
    if path.is_dir() and not any(path.glob("*.index.json")):
        if weights is not None:
            raise click.UsageError("--weights is for checkpoints, and PATH is no checkpoint")
        package = open_package(path)
        signer = None if package.signer is None else dataclasses.asdict(package.signer)
        facts = {**package_facts(package.manifest), "signature": signer}
        first = package.previous_stage()
        if first is not None:
            facts["previous_stage"] = package_facts(first.manifest)
    else:
        facts = checkpoint_facts(path, weights)
    if as_json:
        print_json(facts)
    else:
        for line in _lines(facts):
            print_line(line)


def package_facts(manifest: Manifest) -> dict[str, Any]:
    """Summarise a package, every hash having been checked at opening."""
    return {
        "package": manifest.name,
        "format_version": manifest.format_version,
        "created": manifest.created,
        "release": manifest.release,
        "network": manifest.network.name,
        "parameters": manifest.network.parameters,
        "checkpoint": manifest.network.checkpoint_file,
        "licence": manifest.network.licence or "not recorded",
        "channels": list(manifest.preprocessing.channels),
        "tile": list(manifest.tiling.tile),
        "spacing_mm": manifest.preprocessing.spacing,
        "shape": manifest.preprocessing.shape,
        "orientation": manifest.preprocessing.orientation or "as stored",
        "labels": {str(label.value): label.name for label in manifest.output.labels},
        "codes": {name: _code_text(codes) for name, codes in manifest.codes.items()},
        "postprocessing": [str(step) for step in manifest.postprocessing],
        "regions": [region.name for region in manifest.output.regions],
        "variants": {
            name: {
                "bytes": manifest.files[variant.file].size,
                **{key: variant.parity.get(key) for key in ("label_agreement", "relative_error")},
                **{key: variant.parity[key] for key in ("bound", "noise") if key in variant.parity},
            }
            for name, variant in manifest.variants.items()
        },
        "verified_on": manifest.verification_tiles,
        "assumptions": list(manifest.network.assumptions),
        "files": "every size and SHA-256 as in the manifest",
    }


def _code_text(codes: LabelCodes) -> str:
    """Return type and modifier as ``Kidney (SCT 64033007), Left (SCT 7771000)``."""
    parts = [code for code in (codes.type, codes.modifier) if code is not None]
    return ", ".join(f"{code.meaning} ({code.scheme} {code.value})" for code in parts)


def checkpoint_facts(path: Path, weights: str | None) -> dict[str, Any]:
    """Summarise a checkpoint and list the assumptions made about it."""
    require_extra("torch", extra="export")
    from segmaformer.checkpoint import describe_checkpoint

    try:
        return describe_checkpoint(path, weights=weights)
    except ValueError as error:  # no weights under that key
        raise click.UsageError(str(error)) from error


def _lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], str):
            lines += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        else:
            lines.append(f"{indent}{key}: {_text(value)}")
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    return "none" if value in ([], (), {}) else json.dumps(value)
