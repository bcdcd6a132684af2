"""``sgmf doctor``: report the abilities of this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import click

import segmaformer
from segmaformer.cli.console import print_json, print_line
from segmaformer.cli.exit_codes import DONE, FAILED
from segmaformer.cli.parameters import json_option
from segmaformer.runtime.backends import backends
from segmaformer.runtime.backends.onnxruntime_cpu import import_onnxruntime
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, driver_release
from segmaformer.runtime.bindings.op_library import cpu_isas, op_library_path
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.engines.cache import EngineCache, cache_folder
from segmaformer.runtime.errors import BackendError, EngineError
from segmaformer.runtime.system.memory import MIB

OPTIONAL = {
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "nilearn": "demo",
    "pydicom": "dicom",
    "highdicom": "dicom",
    "ray": "ray",
}
_NARROWEST = 20
"""Fewest columns of a value, on any terminal."""
NEEDED_TO_EXPORT = ("torch", "onnx", "onnxscript")


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Show what this machine can run, and what to install for the rest.

    The exit code is 1 if this machine cannot run packages.
    """
    facts = machine_facts()
    if as_json:
        print_json(facts)
    else:
        _print_facts(facts)
    return DONE if facts["can_infer"] else FAILED


def _print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values; a long value goes on below its beginning if this is a terminal."""
    width = max(len(key) for key in facts)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for key, value in facts.items():
        room = max(_NARROWEST, columns - width - 2)
        lines = textwrap.wrap(_text(value), room, break_long_words=False, break_on_hyphens=False)
        print_line(f"{key.replace('_', ' '):<{width}}  {lines[0] if lines else ''}")
        for line in lines[1:]:
            print_line(f"{'':<{width}}  {line}")


def machine_facts() -> dict[str, Any]:
    """Collect versions, processors, kernels and optional parts, by name."""
    op_library, op_library_works = _op_library()
    onnxruntime, onnxruntime_works = _onnxruntime()
    return {
        "segmaformer": segmaformer.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processors": available_processors() if op_library_works else "unknown",
        "op_library": op_library,
        "onnxruntime": onnxruntime,
        "gpu": _gpu(),
        **{f"backend_{each.label}": each.missing() or "ready" for each in backends()},
        "engines": _engines(),
        **{module: _optional(module, extra) for module, extra in OPTIONAL.items()},
        "can_infer": op_library_works and onnxruntime_works,
        "can_export": all(importlib.util.find_spec(module) for module in NEEDED_TO_EXPORT),
    }


def _op_library() -> tuple[str, bool]:
    try:
        return f"{op_library_path().name}, kernels: {', '.join(cpu_isas())}", True
    except (BackendError, OSError) as error:
        return f"missing: {error}", False


def _onnxruntime() -> tuple[str, bool]:
    try:
        onnxruntime = import_onnxruntime()
    except BackendError as error:
        return f"missing: {error}", False
    return f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}", True


def _gpu() -> str:
    try:
        device = CudaDevice()
    except BackendError as error:
        return f"none: {error}"
    facts = device.facts
    return (
        f"{facts.name}, compute capability {facts.compute_capability}, "
        f"{facts.memory_bytes // MIB} MiB{' shared with the processor' * facts.integrated}, "
        f"driver {driver_release() or 'of unknown release'}, CUDA {device.driver.version}"
    )


def _engines() -> str:
    folder = cache_folder()
    if not folder.exists():
        return f"none yet in {folder}"
    try:
        return str(EngineCache().path)
    except (EngineError, OSError) as error:
        return f"cannot be kept: {error}"


def _optional(module: str, extra: str) -> str:
    if importlib.util.find_spec(module) is None:
        return f"not installed; run: pip install 'segmaformer[{extra}]'"
    return importlib.metadata.version(module)


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
