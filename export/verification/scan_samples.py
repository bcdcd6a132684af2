"""Samples of every scan that a network runs: in PyTorch, and in the graph that was exported.

Of each scan some channels are taken, with all their steps, and all of B and C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils._python_dispatch import TorchDispatchMode

import segmaformer.ops  # noqa: F401  (registers segmaformer::selective_scan with PyTorch)
from segmaformer.export.function_body import node_signature
from segmaformer.export.scan_op import INPUTS, scan_nodes
from segmaformer.export.verification.scan_recurrence import Arrays
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.bindings.processors import available_processors

SAMPLED_CHANNELS = 4
"""Number of channels, from the first to the last at even distances."""

LARGEST_TRACE = 1024
"""Largest number of tokens kept of a scan in PyTorch."""

_OP = torch.ops.segmaformer.selective_scan.default
_CHANNEL_AXIS = {"u": 2, "delta": 2, "z": 2, "y": 2, "A": 0, "D": 0, "delta_bias": 0}
_PLACES = np.linspace(0, 1, SAMPLED_CHANNELS, dtype=np.float32)


@dataclass(frozen=True)
class SampledScan:
    """One scan of a network on one tile.

    Attributes
    ----------
    name
        Name of its node in the graph, or its number in PyTorch.
    arrays
        Its inputs by name, those that are given, and perhaps its result ``y``: sampled channels.
    delta_softplus, reverse
        Its attributes.
    """

    name: str
    arrays: Arrays
    delta_softplus: bool
    reverse: bool

    def trace(self) -> SampledScan:
        """Thin the tokens, as far as is enough to recognise the scan."""
        return SampledScan(
            self.name,
            {name: _thinned(array) for name, array in self.arrays.items() if name != "y"},
            self.delta_softplus,
            self.reverse,
        )


def _thinned(array: np.ndarray) -> np.ndarray:
    if array.ndim < 3:
        return array
    tokens = array.reshape(-1, array.shape[-1])
    count = min(LARGEST_TRACE, len(tokens))
    return tokens[np.linspace(0, len(tokens) - 1, count).astype(int)]


@contextmanager
def recorded_scans(into: list[SampledScan]) -> Iterator[None]:
    """Append a trace of every scan that PyTorch runs in this block, in order."""
    with _Recorder(into):
        yield


class _Recorder(TorchDispatchMode):
    def __init__(self, into: list[SampledScan]):
        super().__init__()  # type: ignore[no-untyped-call]
        self._into = into

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _OP:
            self._into.append(_in_pytorch(f"scan {len(self._into) + 1}", *args))
        return func(*args, **(kwargs or {}))


def _in_pytorch(name: str, *arguments: Any) -> SampledScan:
    *tensors, delta_softplus, reverse = arguments
    arrays = {}
    for key, tensor in zip(INPUTS, tensors, strict=True):
        if tensor is not None:
            axis = _CHANNEL_AXIS.get(key)
            array = tensor.detach().float().numpy()
            arrays[key] = array if axis is None else array.take(_channels(array.shape[axis]), axis)
    return SampledScan(name, arrays, delta_softplus, reverse).trace()


def _channels(count: int) -> np.ndarray:
    """Compute the sampled channels of `count`, as the nodes of :func:`_channel_nodes` do."""
    return np.floor(_PLACES * np.float32(count - 1)).astype(np.int64)


def scans_of_graph(
    content: bytes, tile: np.ndarray, *, op_library: bool = True
) -> list[SampledScan]:
    """Run a float32 network on a tile and sample its scans.

    Parameters
    ----------
    content
        Serialised ONNX model.
    tile
        Shape (C, D, H, W), float32.
    op_library
        Whether to run the scan natively instead of its function body.
    """
    model = onnx.load_from_string(content)
    nodes = scan_nodes(model)
    if not nodes:
        return []
    del content
    plan = _expose(model, nodes)
    exposed = model.SerializeToString()
    del model
    session = open_network(exposed, threads=available_processors(), op_library=op_library)
    del exposed
    values = dict(
        zip((o.name for o in session.get_outputs()), run_network(session, tile[None]), strict=True)
    )
    scans = []
    for node, outputs in zip(nodes, plan, strict=True):
        signature = node_signature(node)
        arrays = {key: values[output] for key, output in outputs.items()}
        scans.append(
            SampledScan(node.name, arrays, signature.delta_softplus, bool(signature.reverse))
        )
    return scans


def _expose(model: onnx.ModelProto, scans: list[onnx.NodeProto]) -> list[dict[str, str]]:
    """Make the sampled inputs and results of the scans outputs of the graph, the only ones.

    Returns the names of the outputs of each scan, by the names of its inputs and ``y``.
    """
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(_PLACES, "sampled_places"))
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "sampled_one"))
    del graph.output[:]
    plan = []
    for number, node in enumerate(scans):
        prefix = f"sampled_{number}_"
        values = {key: name for key, name in zip(INPUTS, node.input, strict=False) if name}
        values["y"] = node.output[0]
        graph.node.extend(_channel_nodes(values["A"], prefix))
        for key, name in values.items():
            axis = _CHANNEL_AXIS.get(key)
            graph.node.append(
                helper.make_node("Identity", [name], [prefix + key])
                if axis is None
                else helper.make_node(
                    "Gather", [name, f"{prefix}channels"], [prefix + key], axis=axis
                )
            )
            graph.output.append(
                helper.make_tensor_value_info(prefix + key, TensorProto.FLOAT, None)
            )
        plan.append({key: prefix + key for key in values})
    return plan


def _channel_nodes(matrix: str, prefix: str) -> list[onnx.NodeProto]:
    """Return nodes that compute the sampled channels from the shape of A."""
    count, last, wide, place, floor = (
        f"{prefix}{name}" for name in ("count", "last", "wide", "place", "floor")
    )
    return [
        helper.make_node("Shape", [matrix], [count], start=0, end=1),
        helper.make_node("Sub", [count, "sampled_one"], [last]),
        helper.make_node("Cast", [last], [wide], to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, "sampled_places"], [place]),
        helper.make_node("Floor", [place], [floor]),
        helper.make_node("Cast", [floor], [f"{prefix}channels"], to=TensorProto.INT64),
    ]
