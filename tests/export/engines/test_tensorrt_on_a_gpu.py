"""Engine with the plugin, on machines with TensorRT, the plugin and a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from support.networks.networks import TINY_TILE

from segmaformer.export.engines.engine_build import EngineRequest, build_tensorrt
from segmaformer.runtime.backends import BackendOptions, NetworkKind
from segmaformer.runtime.backends.onnxruntime_cpu import OnnxRuntimeSession
from segmaformer.runtime.backends.tensorrt.library import load_tensorrt, what_is_missing
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.package.reader import Package

MISSING = what_is_missing()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize(("variant", "tolerance"), [("fp32", 1e-4), ("fp16", 5e-2)])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_engine_computes_what_the_cpu_does(
    tiny_package_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    tolerance: float,
    batch: int,
) -> None:
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    package = Package.open(tiny_package_path)
    logs: list[str] = []
    built = build_tensorrt(
        EngineRequest(package, variant, batch=batch),
        progress=lambda done, count: None,
        keep_log=logs.append,
    )
    trt = load_tensorrt(package.network(variant))
    engine = EngineSession(
        trt.module,
        built.engine,
        trt.device,
        package.manifest,
        trt.messages,
        kind=NetworkKind("tensorrt", "cuda", "fp32"),
        description="",
        identity="",
    )
    # 1, 2 and 3 tiles are cut for fewer than the largest batch, whose workspace they get.
    for count in (1, 2, 3, 7):
        random = np.random.default_rng(count)
        tiles = random.standard_normal((count, 1, *TINY_TILE)).astype(np.float32)
        expected = OnnxRuntimeSession(package, "fp32", BackendOptions()).run(tiles)
        error = np.abs(engine.run(tiles) - expected).max()
        assert error <= tolerance * np.abs(expected).max(), logs
