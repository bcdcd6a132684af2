"""``sgmf doctor``: what this machine can run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from typing import Any

import click

import segmaformer
from segmaformer.runtime.backends.onnxruntime_cpu import available_processors
from segmaformer.runtime.errors import BackendError

OPTIONAL = {
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "nilearn": "demo",
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> int:
    """Show what this machine can run, and what to install for the rest."""
    facts = machine_facts()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        width = max(len(key) for key in facts)
        for key, value in facts.items():
            click.echo(f"{key:<{width}}  {value}")
    return 0 if "missing" not in facts["op library"] else 1


def machine_facts() -> dict[str, Any]:
    """Versions, processors, kernels and optional parts, by name."""
    facts: dict[str, Any] = {
        "segmaformer": segmaformer.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processors": available_processors(),
        "op library": _op_library(),
        "onnxruntime": _onnxruntime(),
    }
    for module, extra in OPTIONAL.items():
        facts[module] = _version(module) or f"not installed: pip install 'segmaformer[{extra}]'"
    facts["can infer"] = "onnxruntime (CPU)" if "missing" not in facts["op library"] else "nothing"
    facts["can export"] = "yes" if all(map(_version, ("torch", "onnx", "onnxscript"))) else "no"
    return facts


def _op_library() -> str:
    from segmaformer.runtime.op_library import cpu_isas, op_library_path

    try:
        return f"{op_library_path().name}, kernels: {', '.join(cpu_isas())}"
    except (BackendError, OSError) as error:
        return f"missing: {error}"


def _onnxruntime() -> str:
    import onnxruntime

    return f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    return importlib.metadata.version(module)
