from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from support.stand_ins.gpu_machine import brightness_package, pretend
from support.stand_ins.onnxruntime_fakes import pretend_cuda_provider

from segmaformer.runtime.backends import BackendOptions, Session
from segmaformer.runtime.backends.onnxruntime_cpu import OnnxRuntimeSession
from segmaformer.runtime.backends.onnxruntime_cuda import OnnxRuntimeCudaSession
from segmaformer.runtime.backends.openvino import OpenVinoSession
from segmaformer.runtime.backends.tensorrt.library import load_tensorrt
from segmaformer.runtime.backends.tensorrt.rtx import open_rtx
from segmaformer.runtime.backends.tensorrt.rtx_library import rtx_key
from segmaformer.runtime.backends.tensorrt.tensorrt import open_tensorrt
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.package.reader import Package

Open = Callable[[Package, str, BackendOptions], Session]


def open_kept_tensorrt(package: Package, variant: str, options: BackendOptions) -> Session:
    EngineCache().store(load_tensorrt(b"").key(package, variant).for_batch(1), b"an engine")
    return open_tensorrt(package, variant, options)


def open_kept_rtx(package: Package, variant: str, options: BackendOptions) -> Session:
    sys.modules["tensorrt_rtx"].__version__ = "1.7.1"  # type: ignore[attr-defined]
    key = rtx_key(package, variant, "sm86", "1.7.1").for_batch(1)
    EngineCache().store(key, b"an engine")
    return open_rtx(package, variant, options)


def open_openvino(package: Package, variant: str, options: BackendOptions) -> Session:
    pytest.importorskip("openvino")
    return OpenVinoSession(package, variant, options)


@pytest.fixture
def whole(tmp_path: Path) -> Package:
    """Write a package whose network does not end with an upsampling."""
    return brightness_package(tmp_path)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: Package) -> None:
    """Set up a machine that seems to have a GPU to every backend, once `package` is exported."""
    machine = pretend(monkeypatch, tmp_path)
    machine.driver.capability = (8, 6)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", machine.trt)  # type: ignore[arg-type]
    pretend_cuda_provider(monkeypatch)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("open_session", "network", "abilities"),
    [
        (OnnxRuntimeSession, "whole", set()),
        (OnnxRuntimeSession, "package", {"coarse"}),
        (OnnxRuntimeCudaSession, "package", {"identity"}),
        (open_openvino, "package", {"identity"}),
        (open_kept_tensorrt, "whole", {"identity", "resident"}),
        (open_kept_rtx, "whole", {"identity", "resident"}),
    ],
)
def test_abilities(
    request: pytest.FixtureRequest, open_session: Open, network: str, abilities: set[str]
) -> None:
    package: Package = request.getfixturevalue(network)
    session = open_session(package, "fp32", BackendOptions(threads=1))
    known = ("identity", "coarse", "resident")
    assert {name for name in known if getattr(session, name) is not None} == abilities
