"""Networks in packages whose tensors claim data elsewhere: in files, in memory, out of range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.hostile_input import TAKEN, UNVERIFIED, HostileInput
from support.packages.samples import sample_manifest

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files

LOCATIONS = {
    "an absolute path": "/etc/passwd",
    "a path out of the package": "../../../etc/passwd",
    "a path out of it on the way in": "a/../../../etc/passwd",
    "a path of Windows": "..\\..\\evil.bin",
    "a device": "/dev/zero",
    "a URL": "file:///etc/passwd",
    "an address in memory": "*/_ORT_MEM_ADDR_/*",
    "a file of the package": "card.md",
    "its own file": "fp32.onnx",
    "the manifest": "manifest.json",
    "a link in the package": "link.bin",
    "nothing": "",
    "a zero byte": "card.md\0/../../evil",
    "escape sequences": "\x1b[2J\x1b]0;evil\x07",
    "a name of a megabyte": "x" * 1_000_000,
}
RANGES: dict[str, dict[str, str]] = {
    "an offset of 2^62": {"offset": str(2**62)},
    "an offset beyond 64 bits": {"offset": "9" * 30},
    "a negative offset": {"offset": "-1"},
    "a length of 2^62": {"length": str(2**62)},
    "an offset that is no number": {"offset": "evil"},
    "a checksum": {"checksum": "0" * 40},
}


def inputs() -> Iterator[HostileInput]:
    yield HostileInput("whole", packaged(lambda model: None), _read, TAKEN)
    for name, location in LOCATIONS.items():
        change = _elsewhere(location, {"offset": "0", "length": "12"})
        yield HostileInput(f"data at {name}", packaged(change), _read, UNVERIFIED)
    for name, entries in RANGES.items():
        change = _elsewhere("card.md", entries)
        yield HostileInput(f"data with {name}", packaged(change), _read, UNVERIFIED)
    for name, change in _PLACES.items():
        yield HostileInput(f"data elsewhere of {name}", packaged(change), _read, UNVERIFIED)
    for name, content in _CONTENTS.items():
        yield HostileInput(name, packaged(lambda model: None, content), _read, UNVERIFIED)


def packaged(
    change: Callable[[Any], object], content: Callable[[bytes], bytes] = lambda whole: whole
) -> Callable[[Path], Path]:
    """Write a package of a network that is changed before its manifest vouches for it."""

    def write(folder: Path) -> Path:
        model = _model()
        change(model)
        package = folder / "model.sgmf"
        package.mkdir()
        network = content(model.SerializeToString())
        write_files(package, sample_manifest(), {"fp32.onnx": network, "card.md": b"# Card\n"})
        (package / "link.bin").symlink_to("/etc/passwd")
        return package

    return write


def _read(path: Path) -> None:
    Package.open(path).network("fp32")


def _model() -> Any:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", [shape], [result], [weight]
    )
    return helper.make_model(graph)


def _tensor(location: str, entries: dict[str, str]) -> Any:
    from onnx import TensorProto

    tensor = TensorProto(name="evil\x1b[2J", dims=[3], data_type=1, data_location=1)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _elsewhere(location: str, entries: dict[str, str]) -> Callable[[Any], object]:
    return lambda model: model.graph.initializer.append(_tensor(location, entries))


def _in_attribute(model: Any) -> None:
    model.graph.node[0].attribute.add(name="value", type=4).t.CopyFrom(_tensor("card.md", {}))


def _in_branch(model: Any, depth: int = 1) -> None:
    node = model.graph.node[0]
    for _ in range(depth):
        attribute = node.attribute.add(name="body", type=5)
        node = attribute.g.node.add(op_type="If")
    node.attribute.add(name="value", type=4).t.CopyFrom(_tensor("card.md", {}))


def _in_sparse(model: Any) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(_tensor("card.md", {}))


def _in_function(model: Any) -> None:
    node = model.functions.add(name="f", domain="d").node.add(op_type="Constant")
    node.attribute.add(name="value", type=4).t.CopyFrom(_tensor("card.md", {}))


def _in_training(model: Any) -> None:
    model.training_info.add().initialization.initializer.append(_tensor("card.md", {}))


_PLACES: dict[str, Callable[[Any], object]] = {
    "an attribute": _in_attribute,
    "a branch": _in_branch,
    "a branch in 20 branches": lambda model: _in_branch(model, 20),
    "a branch in 90 branches": lambda model: _in_branch(model, 90),
    "sparse values": _in_sparse,
    "a function": _in_function,
    "a training graph": _in_training,
    "a place alone, without a path": lambda model: setattr(
        model.graph.initializer[0], "data_location", 1
    ),
}
_CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "no network": lambda _: b"",
    "a network cut off": lambda whole: whole[: len(whole) // 2],
    "a network of noise": lambda _: bytes(range(256)),
    "a length beyond the network": lambda whole: whole + b"\x3a\xff\xff\xff\xff\x0f",
    "a length of more than 64 bits": lambda whole: whole + b"\x3a" + b"\xff" * 12,
    "ONNX Runtime's own format": lambda _: b"\x20\0\0\0ORTM" + bytes(60),
    "no graph": lambda _: b"\x08\x0a" * 10,
}
