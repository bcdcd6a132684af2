"""Search for the place where a variant departs from fp32, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto

from segmaformer.calibration.statistics import tensor_groups, watched_network
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.progress import StepProgress
from segmaformer.runtime.system.memory import MIB

TOLERANCE = 0.01
"""Share of a value's range that float16 stays below in a network that is well scaled."""
_FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class LayerError:
    """Difference of one value of the graph from fp32's.

    Attributes
    ----------
    tensor, operator
        Name of the value, and the operator that computes it.
    relative_error
        Largest difference over the range of fp32's values, on the tile where that is worst;
        infinite for NaN.
    """

    tensor: str
    operator: str
    relative_error: float

    def record(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON, with None for infinity."""
        finite = np.isfinite(self.relative_error)
        return {
            **dataclasses.asdict(self),
            "relative_error": self.relative_error if finite else None,
        }


class LayerValues(Protocol):
    """A variant on a backend that can show the values inside it."""

    @property
    def description(self) -> str:
        """Description of the backend and variant, for people."""
        ...

    @property
    def names(self) -> Set[str]:
        """Names of the values that it can show."""
        ...

    @property
    def group_bytes(self) -> int:
        """Largest size of a group's values as float32, in bytes; a single value may be larger."""
        ...

    def compute(self, group: Sequence[str], tiles: np.ndarray) -> Iterator[Sequence[np.ndarray]]:
        """Compute the values of `group` on each of `tiles` (n, C, D, H, W) float32."""
        ...


class OnnxRuntimeValues:
    """Values of a variant in ONNX Runtime on the CPU.

    Returning values keeps ONNX Runtime from fusing some operators.

    Parameters
    ----------
    package, variant
        Package and the variant to open.
    threads
        Number of threads for one tile; None uses every processor this process may use.
    """

    group_bytes = 128 * MIB

    def __init__(self, package: Package, variant: str, *, threads: int | None = None):
        self.model = variant_model(package, variant)
        self.names = value_types(self.model).keys()
        self.description = f"ONNX Runtime, CPU, {variant}"
        self._threads = threads or available_processors()

    def compute(self, group: Sequence[str], tiles: np.ndarray) -> Iterator[Sequence[np.ndarray]]:
        """Compute values as :class:`LayerValues` describes."""
        session = open_network(watched_network(self.model, group), threads=self._threads)
        for tile in tiles:
            yield run_network(session, tile[np.newaxis])


def compare_layers(
    package: Package,
    variant: LayerValues,
    tiles: np.ndarray,
    *,
    threads: int | None = None,
    progress: StepProgress = lambda done, count: None,
) -> list[LayerError]:
    """Compare all floating-point values that a variant and fp32 both have.

    fp32 runs in ONNX Runtime on the CPU. Values are computed in groups, so that memory stays
    bounded.

    Parameters
    ----------
    package
        Package whose fp32 is the reference.
    variant
        Variant to compare with it.
    tiles
        Shape (n, C, *tile), float32.
    threads
        Number of threads for one tile of fp32; None uses every processor this process may use.
    progress
        Called with the number of groups done and of all groups.

    Returns
    -------
    list of LayerError
        Errors in the order of the graph.
    """
    reference = OnnxRuntimeValues(package, EXACT_VARIANT, threads=threads)
    operators = {
        name: node.op_type
        for node in reference.model.graph.node
        for name in node.output
        if name in reference.names & variant.names
    }
    groups = tensor_groups(reference.model, [*operators], variant.group_bytes)
    worst: dict[str, float] = {}
    for number, group in enumerate(groups):
        progress(number, len(groups))
        worst |= _worst_errors(reference, variant, group, tiles)
    progress(len(groups), len(groups))
    return [LayerError(name, operators[name], error) for name, error in worst.items()]


def variant_model(package: Package, variant: str) -> onnx.ModelProto:
    """Load a variant's network."""
    return onnx.load_from_string(package.network(variant))


def value_types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Return type and shape, by name, of every floating-point value that a tile changes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name: value for value in (*graph.value_info, *graph.output)}
    changing = {value.name for value in graph.input}
    for node in graph.node:
        if changing.intersection(node.input):
            changing.update(node.output)
    return {
        name: value
        for name, value in known.items()
        if name in changing and value.type.tensor_type.elem_type in _FLOATING
    }


def _worst_errors(
    reference: LayerValues, variant: LayerValues, group: Sequence[str], tiles: np.ndarray
) -> dict[str, float]:
    """Return the worst error of each value of a group, over all tiles."""
    worst = dict.fromkeys(group, 0.0)
    computed = (each.compute(group, tiles) for each in (reference, variant))
    for expected, found in zip(*computed, strict=True):
        for name, theirs, ours in zip(group, expected, found, strict=True):
            worst[name] = max(worst[name], _relative_error(ours, theirs))
    return worst


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"a value has the shape {found.shape}; fp32's has {expected.shape}")
    error = float(np.abs(found.astype(np.float64) - expected).max(initial=0))
    if error == 0:
        return 0.0
    span = float(np.ptp(expected)) or float(np.abs(expected).max())
    return error / span if np.isfinite(error) and span else float("inf")
