"""Where the real scans and the published networks' outputs are, if they are here at all."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from support.networks.networks import TINY_TILE, save_tiny_checkpoint

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
def cases_dir() -> Path:
    """Folder of inputs with known right answers (SGMF_TEST_CASES)."""
    return _folder("SGMF_TEST_CASES", "cases")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small network of :func:`save_tiny_checkpoint`, loaded."""
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint

    return load_checkpoint(save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pth"))


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Any) -> Any:
    """The same as it was traced, once for all tests. Copy it to change it."""
    from segmaformer.export.onnx_export import export_onnx

    return export_onnx(tiny_checkpoint.model, TINY_TILE, 1)


@pytest.fixture(scope="session")
def tiny_package_path(
    tiny_checkpoint: Any, tiny_onnx: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A package of the same, float32 and float16. Copy it before changing it."""
    from segmaformer.export import pipeline

    target = tmp_path_factory.mktemp("package") / "tiny.sgmf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "export_onnx", lambda *_: tiny_onnx)
        options = pipeline.ExportOptions(fp16=True)
        return pipeline.export_package(tiny_checkpoint, target, options).path


@pytest.fixture(scope="session")
def hippocampus_checkpoint() -> Any:
    """The reference model, trained."""
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.cli.demo_command import CHECKPOINT

    return load_checkpoint(Path(str(importlib.resources.files("segmaformer") / CHECKPOINT)))


@pytest.fixture(scope="session")
def hippocampus_package_path(
    hippocampus_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A package of the same, float32 only. Copy it before changing it."""
    from segmaformer.export.pipeline import ExportOptions, export_package

    target = tmp_path_factory.mktemp("hippocampus") / "hippocampus.sgmf"
    return export_package(hippocampus_checkpoint, target, ExportOptions()).path


@pytest.fixture(scope="session")
def two_channel_package_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a small network with two channels, float32 only."""
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.pipeline import export_package

    folder = tmp_path_factory.mktemp("package")
    checkpoint = load_checkpoint(save_tiny_checkpoint(folder / "tiny.pth", channels=2))
    return export_package(checkpoint, folder / "tiny.sgmf").path
