"""Stand-ins for a machine with a GPU and TensorRT, and a package for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.packages.samples import sample_manifest
from support.stand_ins.builder_fakes import FakeBuildingTensorRt, two_labels
from support.stand_ins.gpu_fakes import FakeDriver
from support.stand_ins.host_device import HostDriver

from segmaformer.runtime import backends
from segmaformer.runtime.backends.tensorrt import library as tensorrt_library
from segmaformer.runtime.bindings import cuda_driver, cuda_library
from segmaformer.runtime.bindings.cuda_driver import CudaDriver
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.manifest import Variant
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files

TILE = (8, 8, 8)


@dataclass
class GpuMachine:
    """Stand-ins for the driver and for the module ``tensorrt``."""

    driver: Any
    trt: FakeBuildingTensorRt
    plugin: Path


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    kind: type[FakeBuildingTensorRt] = FakeBuildingTensorRt,
    host: HostDriver | None = None,
) -> GpuMachine:
    """Let Python see a GPU, and native code too with `host`; ``folder/engines`` keeps engines."""
    driver = host or FakeDriver()
    trt = kind(driver, (1, *TILE), (2, *TILE), two_labels)
    plugin = folder / "libsgmf_tensorrt.so"
    plugin.write_bytes(b"plugin")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)  # type: ignore[arg-type]
    library = host.library if host else driver
    monkeypatch.setattr(cuda_driver, "load_driver", lambda: CudaDriver(library))
    monkeypatch.setattr(cuda_driver, "DRIVER_VERSIONS", ())
    monkeypatch.setattr(backends, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(tensorrt_library, "plugin_path", lambda: plugin)
    monkeypatch.setattr(cuda_library, "cuda_library_path", _no_cuda_library)
    monkeypatch.setenv("SGMF_CACHE", str(folder / "engines"))
    return GpuMachine(driver, trt, plugin)


def _no_cuda_library() -> NoReturn:
    raise BackendError("there is no CUDA library for what is pretended")


def brightness_package(folder: Path) -> Package:
    """Write a package whose network copies its channel: background 0, foreground the intensity."""
    from onnx import TensorProto, helper

    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *TILE])
        for name, channels in (("tiles", 1), ("logits", 2))
    ]
    nodes = [
        helper.make_node("Sub", ["tiles", "tiles"], ["nothing"]),
        helper.make_node("Concat", ["nothing", "tiles"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(nodes, "network", info[:1], info[1:])
    opsets = [helper.make_opsetid("", 18)]
    network = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    variants = {name: Variant(f"{name}.onnx", {"default": name}, {}) for name in ("fp32", "fp16")}
    path = folder / "brightness.sgmf"
    path.mkdir()
    write_files(
        path,
        sample_manifest(name="brightness", variants=variants, files={}),
        {variant.file: network for variant in variants.values()},
    )
    return Package.open(path)
