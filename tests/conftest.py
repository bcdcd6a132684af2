"""Fixtures for all tests: real scans and published outputs, if present, and small packages."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from support.native.processors import PROCESSORS, keep_to_one

keep_to_one()  # before anything makes a thread pool

from support.graphs.untraced import hide_tracing
from support.networks.networks import save_tiny_checkpoint
from support.networks.reference_model import HIPPOCAMPUS
from support.packages.made_once import made_once
from support.packages.small_packages import write_package

from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("whatever-the-load", deadline=None)
settings.load_profile("whatever-the-load")


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"no {default} folder at {path}; set {variable}")
    return path


def pytest_collection_finish() -> None:
    """Spare every later collection of garbage the modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep engines, passed self-tests and models for this run alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGMF_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SGMF_MODELS", str(tmp_path_factory.mktemp("models") / "none"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _tracing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        hide_tracing(patch)
        yield


@pytest.fixture
def every_processor() -> Iterator[None]:
    """All processors, for tests of what threads do to each other."""
    if not PROCESSORS:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, PROCESSORS)
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real scans (SGMF_TEST_DATA)."""
    return _folder("SGMF_TEST_DATA", "data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Return the folder of outputs of the published networks (SGMF_TEST_GOLDEN)."""
    return _folder("SGMF_TEST_GOLDEN", "golden")


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    """Return the folder of inputs with known right answers (SGMF_TEST_CASES)."""
    return _folder("SGMF_TEST_CASES", "cases")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Load the small network of :func:`save_tiny_checkpoint`."""
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint

    return load_checkpoint(save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pth"))


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """Trace the small network once for all tests. Copy it to change it."""
    return _traced(tmp_path_factory, request, "tiny_checkpoint")


@pytest.fixture(scope="session")
def tiny_package_path(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """Export the small network in float32 and float16. Copy the package before changing it."""
    return _package(tmp_path_factory, request, "tiny", fp16=True)


@pytest.fixture(scope="session")
def hippocampus_checkpoint() -> Any:
    """Load the trained reference model."""
    pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint

    return load_checkpoint(HIPPOCAMPUS)


@pytest.fixture(scope="session")
def hippocampus_onnx(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Any:
    """Trace the reference model once for all tests. Copy it to change it."""
    return _traced(tmp_path_factory, request, "hippocampus_checkpoint")


@pytest.fixture(scope="session")
def hippocampus_package_path(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """Export the reference model in float32 only. Copy the package before changing it."""
    return _package(tmp_path_factory, request, "hippocampus", fp16=False)


def _traced(
    factory: pytest.TempPathFactory, request: pytest.FixtureRequest, checkpoint_fixture: str
) -> Any:
    onnx = pytest.importorskip("onnx")

    def trace(folder: Path) -> None:
        checkpoint = request.getfixturevalue(checkpoint_fixture)
        from segmaformer.export.onnx_export import export_onnx

        onnx.save(export_onnx(checkpoint.model, checkpoint.tiling.tile, 1), folder / "traced.onnx")

    return onnx.load(made_once(factory, f"traced-{checkpoint_fixture}", trace) / "traced.onnx")


def _package(
    factory: pytest.TempPathFactory, request: pytest.FixtureRequest, name: str, *, fp16: bool
) -> Path:
    def export(folder: Path) -> None:
        checkpoint = request.getfixturevalue(f"{name}_checkpoint")
        traced = request.getfixturevalue(f"{name}_onnx")
        from segmaformer.export import pipeline

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "export_onnx", lambda *_, **__: traced)
            options = pipeline.ExportOptions(fp16=fp16)
            pipeline.export_package(checkpoint, folder / f"{name}.sgmf", options)

    return made_once(factory, name, export) / f"{name}.sgmf"


@pytest.fixture(scope="session")
def two_channel_package_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a package of two convolutions with two channels and three labels, float32 only."""
    folder = tmp_path_factory.mktemp("package") / "convolutions.sgmf"
    labels = (Label(0, "background"), Label(1, "anterior"), Label(2, "posterior"))
    preprocessing = Preprocessing(("MR0", "MR1"), (Normalization("zscore"),) * 2)
    return write_package(folder, preprocessing, Output(labels))
