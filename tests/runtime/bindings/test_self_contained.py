from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.samples import copy_package

onnx = pytest.importorskip("onnx")

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TrainingInfoProto,
    helper,
    numpy_helper,
)

from segmaformer.runtime.backends import backend_names, open_session
from segmaformer.runtime.bindings.self_contained import reason_to_refuse
from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files

ADDRESS = "*/_ORT_MEM_ADDR_/*"


def model() -> ModelProto:
    given_ = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [given_], [result], [weight]))


def outside(location: str = "../../etc/passwd") -> TensorProto:
    tensor = TensorProto(name="evil", dims=[3], data_type=TensorProto.FLOAT, data_location=1)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="4096")
    return tensor


def sparse(*, values: bool) -> SparseTensorProto:
    inside = numpy_helper.from_array(np.ones(1, np.int64), "inside")
    found = SparseTensorProto(dims=[3])
    found.values.CopyFrom(outside() if values else inside)
    found.indices.CopyFrom(inside if values else outside())
    return found


def holding(**fields: Any) -> NodeProto:
    node = NodeProto(op_type="Constant", output=["c"])
    node.attribute.append(AttributeProto(name="value", **fields))
    return node


def within(graph: GraphProto, depth: int = 5) -> NodeProto:
    """Nest the graph in a branch of an If, in a branch of an If, and so on."""
    node = holding(g=graph)
    for _ in range(depth):
        node = holding(graphs=[GraphProto(node=[node])])
    return node


PLACES: dict[str, Callable[[ModelProto], Any]] = {
    "initializer": lambda m: m.graph.initializer.append(outside()),
    "absolute": lambda m: m.graph.initializer.append(outside("/etc/passwd")),
    "beside": lambda m: m.graph.initializer.append(outside("weights.bin")),
    "address": lambda m: m.graph.initializer.append(outside(ADDRESS)),
    "location alone": lambda m: m.graph.initializer.append(
        TensorProto(name="evil", data_location=1)
    ),
    "paths alone": lambda m: m.graph.initializer[0].external_data.add(key="location", value="x"),
    "sparse values": lambda m: m.graph.sparse_initializer.append(sparse(values=True)),
    "sparse indices": lambda m: m.graph.sparse_initializer.append(sparse(values=False)),
    "attribute": lambda m: m.graph.node.append(holding(t=outside(ADDRESS))),
    "attribute of many": lambda m: m.graph.node.append(holding(tensors=[TensorProto(), outside()])),
    "sparse attribute": lambda m: m.graph.node.append(holding(sparse_tensor=sparse(values=True))),
    "sparse attributes": lambda m: m.graph.node.append(
        holding(sparse_tensors=[sparse(values=False)])
    ),
    "branch": lambda m: m.graph.node.append(within(GraphProto(initializer=[outside()]))),
    "sparse in a branch": lambda m: m.graph.node.append(
        within(GraphProto(sparse_initializer=[sparse(values=True)]))
    ),
    "function": lambda m: m.functions.append(
        FunctionProto(name="f", node=[holding(t=outside(ADDRESS))])
    ),
    "default of a function": lambda m: m.functions.append(
        FunctionProto(name="f", attribute_proto=[AttributeProto(name="a", t=outside())])
    ),
    "training": lambda m: m.training_info.append(
        TrainingInfoProto(algorithm=GraphProto(initializer=[outside()]))
    ),
    "start of training": lambda m: m.training_info.append(
        TrainingInfoProto(initialization=GraphProto(node=[holding(t=outside())]))
    ),
}


def test_a_network_that_holds_its_data() -> None:
    assert reason_to_refuse(model().SerializeToString()) is None


def test_exported_networks_hold_their_data(tiny_package_path: Path) -> None:
    package = Package.open(tiny_package_path)
    for variant in package.manifest.variants:
        assert reason_to_refuse(package.network(variant)) is None


@pytest.mark.parametrize("place", PLACES)
def test_data_outside_is_found_wherever_it_stands(place: str) -> None:
    document = model()
    PLACES[place](document)
    reason = reason_to_refuse(document.SerializeToString())
    assert reason is not None
    assert "whose data lies outside it" in reason


def test_every_tensor_of_the_schema_is_looked_at() -> None:
    """List all paths that onnx knows from a model to a tensor, by its own description."""
    tensor, ways, waiting = TensorProto.DESCRIPTOR, set(), [ModelProto.DESCRIPTOR]
    seen = {ModelProto.DESCRIPTOR.full_name}
    for message in waiting:
        for entry in message.fields:
            kind = entry.message_type
            if kind is None or kind is tensor:
                ways |= {(message.name, entry.name)} if kind is tensor else set()
            elif kind.full_name not in seen:
                seen.add(kind.full_name)
                waiting.append(kind)
    assert ways == {
        ("GraphProto", "initializer"),
        ("AttributeProto", "t"),
        ("AttributeProto", "tensors"),
        ("SparseTensorProto", "values"),
        ("SparseTensorProto", "indices"),
    }


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes, wire: int = 2) -> bytes:
    return varint(number << 3 | wire) + varint(len(content)) + content


GRAPH = field(7, field(1, b""))

MALFORMED = {
    "empty": b"",
    "text": b"<?xml version='1.0'?><net></net>",
    "no graph": field(2, b"segmaformer"),
    "ONNX Runtime's own format": b"\x12\x06ozORTM" + GRAPH,
    "a tag beyond 32 bits": GRAPH + varint((1 << 32) + (7 << 3 | 2)) + b"\x00",
    "field 0": GRAPH + b"\x02\x00",
    "a group": GRAPH + varint(3 << 3 | 3) + varint(3 << 3 | 4),
    "a graph as a number": GRAPH + varint(7 << 3) + b"\x05",
    "cut": GRAPH + field(7, bytes(9))[:-3],
    "too deep": b"",
}
for _ in range(150):
    MALFORMED["too deep"] = field(6, field(1, field(5, MALFORMED["too deep"])))
MALFORMED["too deep"] = field(7, field(1, field(5, MALFORMED["too deep"])))


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_model_is_not_handed_on(name: str) -> None:
    assert reason_to_refuse(MALFORMED[name]) == "is no ONNX model"


@given(st.data())
@settings(max_examples=200)
def test_where_the_parser_sees_data_outside_so_does_the_check(data: st.DataObject) -> None:
    """Bytes changed at random: whatever onnx reads as external must not pass."""
    document = model()
    place = data.draw(st.sampled_from(sorted(PLACES)))
    PLACES[place](document)
    content = bytearray(document.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = onnx.load_from_string(bytes(content))
    except Exception:  # no library opens it either
        return
    if b"location" in parsed.SerializeToString() and _names_data_outside(parsed):
        assert reason_to_refuse(bytes(content)) is not None


def _names_data_outside(message: Any) -> bool:
    if isinstance(message, TensorProto):
        return bool(message.external_data) or message.data_location == 1
    values = [value for _, value in message.ListFields()]
    flat = [each for value in values for each in (value if hasattr(value, "__len__") else [value])]
    return any(_names_data_outside(each) for each in flat if hasattr(each, "ListFields"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_no_backend_sees_such_a_network(
    tiny_package_path: Path, tmp_path: Path, backend: str
) -> None:
    assert backend in backend_names()
    folder = copy_package(tiny_package_path, tmp_path / "evil.sgmf")
    package = Package.open(folder)
    document = onnx.load_from_string(package.network("fp32"))
    document.graph.initializer.append(outside(ADDRESS))
    files = {name: package.read(name) for name in package.manifest.files}
    files["fp32.onnx"] = document.SerializeToString()
    write_files(folder, dataclasses.replace(package.manifest, files={}), files)
    with pytest.raises(PackageError, match=r"fp32\.onnx has a tensor, evil, whose data lies out"):
        open_session(Package.open(folder), backend=backend, variant="fp32")
