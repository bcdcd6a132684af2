"""Allowed imports between folders, checked on the source text."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "runtime"
MODELS = ROOT / "segmaformer/models"

BASE = {"spec", "errors", "progress"}
"""Single modules of the face that every folder may import."""

MAY_IMPORT = {
    "system": set[str](),
    "package": {"bindings", "system"},
    "bindings": {"system"},
    "scans": {"bindings", "system"},
    "pipeline": {"bindings", "package", "scans", "system"},
    "checks": {"package", "pipeline", "scans", "system"},
    "parity": {"package", "pipeline", "scans", "system"},
    "engines": {"package", "system"},
    "backends": {"bindings", "engines", "package", "parity", "pipeline", "system"},
    "results": {"package", "scans", "system"},
    "node": {"results", "scans", "system"},
    "service": {"package", "results", "scans", "system"},
}
MAY_CALL_C = {
    "runtime/backends/tensorrt/messages.py": "keeps alive what TensorRT would free wrongly",
}
"""Modules outside ``runtime/bindings`` that import ctypes, and what for."""
FOREIGN = {"torch", "onnx", "onnxscript", "onnx_ir", "safetensors"}
PLACES = {"segmaformer.export", "segmaformer.calibration"}


def imports(path: Path) -> Iterator[str]:
    """Return names of the modules that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def folder_of(module: str) -> str:
    """Return the folder or single module below ``segmaformer.runtime``; empty for others."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["segmaformer", "runtime"] and len(parts) > 2 else ""


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_a_folder_imports_only_what_it_stands_on(folder: str) -> None:
    allowed = MAY_IMPORT[folder] | BASE | {folder}
    wrong = {
        f"{path.name} imports {module}"
        for path in files(RUNTIME / folder)
        for module in imports(path)
        if folder_of(module) not in allowed | {""}
    }
    assert not wrong


def test_every_folder_has_its_rule() -> None:
    folders = {path.parent.name for path in RUNTIME.glob("*/__init__.py")}
    assert folders == set(MAY_IMPORT)


def test_the_rules_have_no_circle() -> None:
    left = {folder: set(below) for folder, below in MAY_IMPORT.items()}
    while left:
        free = {folder for folder, below in left.items() if not below & left.keys()}
        assert free, f"these stand on one another: {sorted(left)}"
        left = {folder: below for folder, below in left.items() if folder not in free}


@pytest.mark.parametrize("family", ["layers", "planned_unets", "pyramids", "segmamba"])
def test_families_of_networks_share_only_layers(family: str) -> None:
    families = {path.parent.name for path in MODELS.glob("*/__init__.py")} - {"layers", family}
    wrong = {
        f"{path.name} imports {module}"
        for path in files(MODELS / family)
        for module in imports(path)
        if module.startswith("segmaformer.models.") and module.split(".")[2] in families
    }
    assert not wrong


@pytest.mark.parametrize("path", files(RUNTIME), ids=lambda path: str(path.relative_to(RUNTIME)))
def test_the_runtime_needs_neither_torch_nor_the_exporter(path: Path) -> None:
    found = {module for module in imports(path) if module.split(".")[0] in FOREIGN}
    found |= {module for module in imports(path) if module.startswith(tuple(PLACES))}
    assert not found


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "tests"])
def test_what_is_imported_from_the_project_exists(folder: str) -> None:
    """Check also files that do not run here, as those for a GPU."""
    missing = {
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path, module, name in imported_names(folder)
        if module.startswith("segmaformer") and not is_there(module, name)
    }
    assert not missing


def is_there(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or bool(
            importlib.util.find_spec(f"{module}.{name}")
        )
    except ModuleNotFoundError as error:
        # A package of an extra that is not installed says nothing about the project's own names.
        return not (error.name or "").startswith("segmaformer")


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_what_scripts_import_from_those_beside_them_exists(folder: str) -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path, module, name in imported_names(folder)
        for place in (path.parent, ROOT / folder)
        if (beside := place / f"{module.replace('.', '/')}.py").is_file()
        and name not in names_of(beside)
    }
    assert not missing


def imported_names(folder: str) -> Iterator[tuple[Path, str, str]]:
    """Return each file of a folder with the modules and names that it imports from them."""
    for path in files(ROOT / folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                yield from ((path, node.module or "", alias.name) for alias in node.names)


@functools.cache
def names_of(path: Path) -> frozenset[str]:
    """Names that a module defines or imports at its top, read as text."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (part for target in targets for part in ast.walk(target))
            found.update(part.id for part in parts if isinstance(part, ast.Name))
    return frozenset(found)


def test_only_the_bindings_call_c() -> None:
    callers = {
        str(path.relative_to(ROOT))
        for place in ("runtime", "export", "calibration", "segmaformer")
        for path in files(ROOT / place)
        if path.parent != RUNTIME / "bindings" and "ctypes" in imports(path)
    }
    assert callers == set(MAY_CALL_C)


def test_folders_stay_small_enough_to_read() -> None:
    fullest = {
        folder: len(list(folder.glob("*.py")))
        for folder in {
            path.parent
            for place in ("runtime", "export", "calibration", "segmaformer", "benchmarks")
            for path in files(ROOT / place)
        }
    }
    assert max(fullest.values()) <= 24, max(fullest, key=lambda folder: fullest[folder])


def test_the_architecture_page_names_every_folder() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    sources = [
        path
        for place in ("runtime", "export", "calibration", "segmaformer")
        for ending in ("py", "cc", "h", "cu")
        for path in (ROOT / place).rglob(f"*.{ending}")
    ]
    assert not {path.parent.name for path in sources if f"{path.parent.name}/`" not in page}
