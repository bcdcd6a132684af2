"""Where the real scans and the published networks' outputs are, if they are here at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from networks import TINY_TILE, save_tiny_checkpoint

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"no {default} folder at {path}; set {variable}")
    return path


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines and passed self-tests are kept for this run alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGMF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real scans (SGMF_TEST_DATA)."""
    return _folder("SGMF_TEST_DATA", "data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of outputs of the published networks (SGMF_TEST_GOLDEN)."""
    return _folder("SGMF_TEST_GOLDEN", "golden")


@pytest.fixture(scope="session")
def tiny_package_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a small network, float32 and float16. Copy it before changing it."""
    return _export_tiny(tmp_path_factory.mktemp("package"), channels=1, fp16=True)


@pytest.fixture(scope="session")
def two_channel_package_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a small network with two channels, float32 only."""
    return _export_tiny(tmp_path_factory.mktemp("package"), channels=2, fp16=False)


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small network of :func:`save_tiny_checkpoint` as it was traced. Copy it to change it."""
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.onnx_export import export_onnx

    path = save_tiny_checkpoint(tmp_path_factory.mktemp("traced") / "tiny.pth")
    return export_onnx(load_checkpoint(path).model, TINY_TILE, 1)


def _export_tiny(folder: Path, *, channels: int, fp16: bool) -> Path:
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.pipeline import ExportOptions, export_package

    checkpoint = load_checkpoint(save_tiny_checkpoint(folder / "tiny.pth", channels=channels))
    return export_package(checkpoint, folder / "tiny.sgmf", ExportOptions(fp16=fp16)).path
