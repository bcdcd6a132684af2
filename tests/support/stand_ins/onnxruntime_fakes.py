"""ONNX Runtime with a CUDA provider, which its CPU provider and a fake driver stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
from support.stand_ins.gpu_fakes import FakeDriver

from segmaformer.runtime.backends import onnxruntime_cuda
from segmaformer.runtime.backends.onnxruntime_cuda import PROVIDER
from segmaformer.runtime.bindings import op_library
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver

CPU, SCAN = "CPUExecutionProvider", "SelectiveScan"


def assignment(provider: str, *names: str) -> SimpleNamespace:
    nodes = [SimpleNamespace(op_type=name) for name in names]
    return SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)


class Binding:
    """Binds memory of the fake device, which is the CPU's."""

    def __init__(self, session: Any):
        self.binding = session.io_binding()

    def bind_input(self, name: str, device: str, *arguments: Any) -> None:
        assert device == "cuda"
        self.binding.bind_input(name, "cpu", *arguments)

    def bind_output(self, name: str, device: str, *arguments: Any) -> None:
        assert device == "cuda"
        self.binding.bind_output(name, "cpu", *arguments)


@dataclass
class FakeOnnxRuntime:
    """The module with a CUDA provider; `assigned` is what it says of its nodes."""

    providers: tuple[str, ...] = (PROVIDER, CPU)
    started: tuple[str, ...] = (PROVIDER, CPU)
    assigned: Iterable[Any] | None = (assignment(PROVIDER, SCAN, "Conv"),)
    loading: str = ""
    failure: Exception | None = None
    options: dict[str, str] = field(default_factory=dict)
    __version__: str = "1.31.1"

    SessionOptions = onnxruntime.SessionOptions

    def get_available_providers(self) -> list[str]:
        return list(self.providers)

    def preload_dlls(self) -> None:
        print(self.loading)  # the real one prints what it cannot load

    def InferenceSession(  # noqa: N802
        self, content: bytes, options: Any, *, providers: list[Any], enable_fallback: bool
    ) -> Any:
        ((name, self.options),) = providers
        assert (name, enable_fallback) == (PROVIDER, False)
        session = onnxruntime.InferenceSession(content, options, providers=[CPU])

        def run(binding: Binding, options: Any) -> None:
            if self.failure is not None:
                raise self.failure
            session.run_with_iobinding(binding.binding, options)

        members = {
            "get_providers": lambda: list(self.started),
            "get_inputs": session.get_inputs,
            "get_outputs": session.get_outputs,
            "io_binding": lambda: Binding(session),
            "run_with_iobinding": run,
        }
        if self.assigned is not None:
            members["get_provider_graph_assignment_info"] = lambda: self.assigned
        return SimpleNamespace(**members)


@dataclass
class Machine:
    onnxruntime: FakeOnnxRuntime
    driver: FakeDriver


def pretend_cuda_provider(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Set up a machine that seems to have a GPU."""
    machine = Machine(FakeOnnxRuntime(), FakeDriver())
    for name, stand_in in (
        ("import_onnxruntime", lambda: machine.onnxruntime),
        ("CudaDevice", lambda: CudaDevice(CudaDriver(machine.driver))),
        ("cuda_library_path", op_library.op_library_path),
    ):
        monkeypatch.setattr(onnxruntime_cuda, name, stand_in)
    return machine
