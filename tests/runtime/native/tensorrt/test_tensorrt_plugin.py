"""TensorRT's plugin through its creator: fields, shapes, formats, copies, and its scan on the CPU.

Needs TensorRT's headers and CUDA's, no GPU and no TensorRT: ``tensorrt_host.cc`` calls the plugin
as an engine would.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native.native_builds import (
    NATIVE,
    SCAN_ON_HOST,
    STAND_INS,
    compile_library,
    cuda_include_dir,
    exported_symbols,
    tensorrt_include_dirs,
)

pytest.importorskip("onnx")

from support.graphs.scan_models import (
    FLOAT32,
    NUMPY_TYPES,
    ONNX_TYPES,
    SUBSETS,
    make_inputs,
    make_model,
    run_directly,
)

from segmaformer.export.engines.plugin_graph import plugin_graph
from segmaformer.runtime.bindings.kernel_structs import BFLOAT16, FLOAT16

PLUGIN = [
    NATIVE / "tensorrt/plugin/selective_scan_plugin.cc",
    NATIVE / "tensorrt/plugin/plugin_library.cc",
    NATIVE / "kernels/scan/scan_inputs.cc",
]
HOST = STAND_INS / "tensorrt_host.cc"
EXPORTS = f"-Wl,--version-script={NATIVE / 'tensorrt/plugin/exports.map'}"

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
ATTRIBUTES = ("delta_softplus", "reverse", "has_D", "has_z", "has_delta_bias")
FLOAT, HALF, INT8, BF16 = 0, 1, 2, 7  # nvinfer1::DataType
TENSORRT_TYPES = {FLOAT32: FLOAT, FLOAT16: HALF, BFLOAT16: BF16}
LINEAR, CHW2 = 0, 1  # nvinfer1::TensorFormat
FIELD_FLOAT32, FIELD_INT32 = 1, 5  # nvinfer1::PluginFieldType
MULTIPROCESSORS = 7  # of scan_on_host.cc


class HostTensor(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int32),
        ("format", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int64 * 8),
        ("least", ctypes.c_int64 * 8),
        ("most", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    type: int = FLOAT
    format: int = LINEAR
    batches: tuple[int, int] = (1, 4)
    array: Any = None

    def to_host(self) -> HostTensor:
        least, most = (
            [batch if extent < 0 else extent for extent in self.shape] for batch in self.batches
        )
        data = None if self.array is None else self.array.ctypes.data
        shapes = [(ctypes.c_int64 * 8)(*shape) for shape in (self.shape, least, most)]
        return HostTensor(self.type, self.format, len(self.shape), *shapes, data)


def to_host(tensors: Sequence[Tensor]) -> Any:
    return (HostTensor * len(tensors))(*(tensor.to_host() for tensor in tensors))


def scan_tensors(
    element: int = FLOAT, optional: Sequence[str] = NAMES[5:], batch: int = -1
) -> list[Tensor]:
    """Return inputs in the order of the node, and y."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("u", "delta", "z"), (batch, 40, 21))
    shapes |= dict.fromkeys(("B", "C"), (batch, 40, 6))
    shapes |= {"A": (21, 6), "D": (21,), "delta_bias": (21,)}
    names = [name for name in NAMES if name in NAMES[:5] or name in optional]
    tensors = [
        Tensor(shapes[name], FLOAT if name in ("A", "D", "delta_bias") else element)
        for name in names
    ]
    return [*tensors, Tensor(shapes["u"], element)]


class Plugin:
    """``IPluginV3`` as the host sees it."""

    def __init__(self, host: Any, address: int):
        assert address, host.host_log().decode()
        self._host, self._address = host, address

    def __del__(self) -> None:
        self._host.host_delete(self._address)

    def copy(self, how: str) -> Plugin:
        return Plugin(self._host, getattr(self._host, f"host_{how}")(self._address))

    def call(self, name: str, *arguments: Any) -> Any:
        return getattr(self._host, f"host_{name}")(self._address, *arguments)

    def ask(self, name: str, tensors: Sequence[Tensor], *arguments: Any) -> Any:
        """Describe a call with the inputs and y; the count is that of the inputs."""
        return self.call(name, to_host(tensors), len(tensors) - 1, *arguments)

    def fields(self) -> dict[str, int]:
        pairs = (pair.split("=") for pair in self.call("fields").decode().split())
        return {name: int(value) for name, value in pairs}


@pytest.fixture(scope="module")
def headers() -> list[Path]:
    found = tensorrt_include_dirs()
    if not found:
        pytest.skip("no TensorRT headers; install TensorRT's or set TENSORRT_INCLUDE_DIR")
    return found


def include(headers: Path) -> tuple[str, ...]:
    return ("-isystem", str(headers), "-isystem", str(cuda_include_dir()))


@pytest.fixture(scope="module")
def library(headers: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plugin") / "libplugin.so"
    return compile_library(output, [*PLUGIN, SCAN_ON_HOST], EXPORTS, *include(headers[0]))


@pytest.fixture(scope="module")
def host(headers: list[Path], library: Path) -> Iterator[Any]:
    output = library.with_name("libhost.so")
    options = (*include(headers[0]), f"-Wl,-rpath,{library.parent}")
    compile_library(output, [HOST, library], *options, over_op_library=False)
    loaded = ctypes.CDLL(str(output))
    for name in ("create", "clone", "attach", "restore"):
        getattr(loaded, f"host_{name}").restype = ctypes.c_void_p
    for name in ("log", "creator", "name", "fields"):
        getattr(loaded, f"host_{name}").restype = ctypes.c_char_p
    loaded.host_workspace.restype = ctypes.c_int64
    for name in ("clone", "attach", "restore", "delete", "name", "fields"):
        getattr(loaded, f"host_{name}").argtypes = (ctypes.c_void_p,)
    tensors = ctypes.POINTER(HostTensor)
    for name in ("output_type", "output_shape", "configure", "workspace"):
        getattr(loaded, f"host_{name}").argtypes = (ctypes.c_void_p, tensors, ctypes.c_int32)
    loaded.host_run.argtypes = (ctypes.c_void_p, tensors, ctypes.c_int32, ctypes.c_void_p)
    loaded.host_supports.argtypes = (ctypes.c_void_p, ctypes.c_int32, tensors, ctypes.c_int32)
    yield loaded
    assert loaded.host_log() == b""


def create(host: Any, types: dict[str, int] | None = None, **fields: int) -> Plugin:
    return Plugin(host, address_of(host, types, **fields))


def address_of(host: Any, types: dict[str, int] | None = None, **fields: int) -> int:
    names = (ctypes.c_char_p * len(fields))(*(name.encode() for name in fields))
    values = (ctypes.c_int64 * len(fields))(*fields.values())
    kinds = [(types or {}).get(name, FIELD_INT32) for name in fields]
    return host.host_create(names, values, (ctypes.c_int32 * len(fields))(*kinds), len(fields))


def presence(optional: Sequence[str]) -> dict[str, int]:
    return {f"has_{name}": int(name in optional) for name in NAMES[5:]}


def test_every_header_compiles_it(headers: list[Path], tmp_path: Path) -> None:
    for folder in headers[1:]:
        compile_library(tmp_path / "libplugin.so", PLUGIN, "-fsyntax-only", *include(folder))


def test_only_what_tensorrt_looks_for_is_visible(library: Path) -> None:
    assert exported_symbols(library) == {"getCreators", "setLoggerFinder"}


IN_A_REGISTRY = """
import sys
import numpy as np
import {name} as trt

registry = trt.get_plugin_registry()
registry.load_library(sys.argv[1])
creator = registry.get_creator("SelectiveScan", "1", "segmaformer")

def create(field):
    value = trt.PluginField(field, np.ones(1, np.int32), trt.PluginFieldType.INT32)
    fields = trt.PluginFieldCollection([value])
    return creator.create_plugin("node", fields, trt.TensorRTPhase.BUILD)

part = trt.PluginCapabilityType.BUILD
print(create("reverse").get_capability_interface(part) is not None, create("forward"))
print(*(field.name for field in creator.field_names))
"""


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_lean_bindings", "tensorrt_rtx"])
def test_the_real_registry_takes_the_library(library: Path, name: str) -> None:
    """Needs no GPU; in a process of its own, since what is loaded stays."""
    pytest.importorskip(name)
    command = [sys.executable, "-c", IN_A_REGISTRY.format(name=name), str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["True None", " ".join(ATTRIBUTES)]


def test_names(host: Any) -> None:
    name, version, namespace, *fields = host.host_creator().decode().split()
    assert (name, version, namespace) == ("SelectiveScan", "1", "segmaformer")
    assert tuple(fields) == ATTRIBUTES
    assert create(host).call("name").decode() == "SelectiveScan 1 segmaformer"


def test_fields_and_their_defaults(host: Any) -> None:
    expected = dict(zip(ATTRIBUTES, (0, 0, 1, 1, 1), strict=True))
    assert create(host).fields() == expected | {"multiprocessors": MULTIPROCESSORS}


@pytest.mark.parametrize("how", ["clone", "attach", "restore"])
def test_copies_are_equal_and_live_on_their_own(host: Any, how: str) -> None:
    for values in itertools.product((0, 1), repeat=len(ATTRIBUTES)):
        fields = dict(zip(ATTRIBUTES, values, strict=True)) | {"multiprocessors": 142}
        original = create(host, **fields)
        copy = original.copy(how).copy(how)
        del original
        assert copy.fields() == fields


@pytest.mark.parametrize(
    ("fields", "types", "message"),
    [
        ({"forward": 1}, {}, "unknown field forward"),
        ({"reverse": 2}, {}, "reverse must be 0 or 1; found 2"),
        ({"delta_softplus": -1}, {}, "delta_softplus must be 0 or 1; found -1"),
        ({"reverse": 1}, {"reverse": FIELD_FLOAT32}, "field reverse must be one int32"),
        ({"multiprocessors": 0}, {}, "multiprocessors must be positive"),
    ],
)
def test_fields_that_are_refused(
    host: Any, fields: dict[str, int], types: dict[str, int], message: str
) -> None:
    assert not address_of(host, types, **fields)
    assert message in host.host_log().decode()


@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
def test_shape_and_type_are_those_of_u(host: Any, optional: tuple[str, ...]) -> None:
    plugin = create(host, **presence(optional))
    for element in (FLOAT, HALF, BF16):
        tensors = scan_tensors(element, optional)
        assert plugin.ask("output_type", tensors) == element
        assert plugin.ask("output_shape", tensors) == 0
        assert plugin.ask("configure", tensors) == 0


def changed(tensors: list[Tensor], name: str, **change: Any) -> list[Tensor]:
    position = NAMES.index(name)
    tensors[position] = replace(tensors[position], **change)
    return tensors


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("u", (-1, 40, 21, 1), "expected u (B, L, D) and A (D, N); found (-1, 40, 21, 1)"),
        ("A", (21,), "found (-1, 40, 21) and (21)"),
        ("B", (-1, 39, 6), "B has shape (-1, 39, 6); u and A ask for (-1, 40, 6)"),
        ("delta_bias", (20,), "delta_bias has shape (20); u and A ask for (21)"),
    ],
)
def test_shapes_that_do_not_fit(host: Any, name: str, shape: tuple[int, ...], message: str) -> None:
    plugin = create(host)
    assert plugin.ask("output_shape", changed(scan_tensors(), name, shape=shape)) < 0
    assert message in host.host_log().decode()


def test_only_the_batch_may_vary(host: Any) -> None:
    tensors = [
        replace(t, shape=tuple(-1 if e == 40 else e for e in t.shape)) for t in scan_tensors()
    ]
    assert create(host).ask("configure", tensors) < 0
    assert "only the batch may vary" in host.host_log().decode()


@pytest.mark.parametrize(
    ("name", "element", "wrong"),
    [("delta", HALF, FLOAT), ("z", FLOAT, BF16), ("A", HALF, HALF), ("u", INT8, INT8)],
)
def test_types_that_do_not_fit(host: Any, name: str, element: int, wrong: int) -> None:
    plugin = create(host)
    assert plugin.ask("output_type", changed(scan_tensors(element), name, type=wrong)) < 0
    assert "A, D and delta_bias must be float32" in host.host_log().decode()


@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
def test_a_wrong_number_of_inputs(host: Any, optional: tuple[str, ...]) -> None:
    plugin = create(host, **presence(optional))
    tensors = scan_tensors(FLOAT, optional)
    surplus = [tensors[0], *tensors]
    for call in ("output_type", "output_shape", "configure"):
        assert plugin.ask(call, surplus) < 0
        assert f"ask for {len(tensors) - 1} inputs and 1 output" in host.host_log().decode()


@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
@pytest.mark.parametrize("element", [FLOAT, HALF, BF16])
def test_formats(host: Any, element: int, optional: tuple[str, ...]) -> None:
    plugin = create(host, **presence(optional))
    tensors = scan_tensors(element, optional)
    for position, tensor in enumerate(tensors):

        def supports(at: int = position, **change: Any) -> int:
            given = [*tensors[:at], replace(tensors[at], **change), *tensors[at + 1 :]]
            return plugin.call("supports", at, to_host(given), len(given) - 1)

        assert supports()
        assert not supports(format=CHW2)
        assert not supports(type=INT8)
        wrong = {FLOAT: HALF, HALF: BF16, BF16: FLOAT}[tensor.type]
        assert supports(type=wrong) == (position == 0)


@pytest.mark.parametrize("batches", [(1, 1), (1, 4), (3, 8)])
def test_workspace_serves_every_batch_of_a_profile(host: Any, batches: tuple[int, int]) -> None:
    tensors = [replace(tensor, batches=batches) for tensor in scan_tensors()]
    assert create(host).ask("workspace", tensors) == batches[1] * 21 * MULTIPROCESSORS


def from_node(host: Any, node: Any) -> Plugin:
    """Make the plugin as TensorRT's parser does for a node, from the attributes it names."""
    _, _, _, *known = host.host_creator().decode().split()
    return create(host, **{a.name: a.i for a in node.attribute if a.name in known})


@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
@pytest.mark.parametrize("element_type", ONNX_TYPES)
def test_a_node_of_an_exported_graph_runs(
    host: Any, element_type: int, optional: tuple[str, ...]
) -> None:
    inputs = make_inputs(element_type, optional)
    y = np.empty(inputs["u"].shape, NUMPY_TYPES[element_type])
    for reverse in (0, 1):
        model = make_model(inputs, element_type, delta_softplus=1, reverse=reverse)
        (node,) = plugin_graph(model).graph.node
        arrays = [*(inputs[name] for name in node.input), y]
        empty = scan_tensors(TENSORRT_TYPES[element_type], optional, batch=2)
        tensors = [replace(t, array=array) for t, array in zip(empty, arrays, strict=True)]
        plugin = from_node(host, node).copy("restore").copy("attach")
        workspace = np.empty(plugin.ask("workspace", tensors), np.uint8)
        assert plugin.ask("run", tensors, workspace.ctypes.data) == 0
        expected = run_directly(inputs, element_type, delta_softplus=True, reverse=bool(reverse))
        np.testing.assert_array_equal(y, expected)


def test_a_scan_that_fails_reaches_the_log(host: Any) -> None:
    plugin = create(host)
    arrays = [np.zeros(t.shape, np.float32) for t in scan_tensors(batch=2)]
    tensors = [replace(t, array=a) for t, a in zip(scan_tensors(batch=2), arrays, strict=True)]
    assert plugin.ask("run", tensors, None) < 0
    assert "there is no workspace" in host.host_log().decode()
