"""Where a variant leaves fp32: every value of the graph, layer by layer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from segmaformer.calibration.statistics import tensor_bytes, tensor_groups, watched_network
from segmaformer.runtime.backends.onnxruntime_cpu import available_processors, open_network
from segmaformer.runtime.memory import MIB
from segmaformer.runtime.package import Package
from segmaformer.runtime.stored_reference import reference_tile

TOLERANCE = 0.01
"""Of a value's range: what float16 stays below in a network that is well scaled."""
_BUDGET_BYTES = 256 * MIB


@dataclass(frozen=True)
class LayerError:
    """How far one value of the graph is from fp32's.

    Attributes
    ----------
    tensor, operator
        Its name, and what computes it.
    relative_error
        Largest difference over the range of fp32's values; infinite for NaN.
    """

    tensor: str
    operator: str
    relative_error: float

    def record(self) -> dict[str, Any]:
        """For JSON, which has no infinity: None then."""
        finite = np.isfinite(self.relative_error)
        return {
            **dataclasses.asdict(self),
            "relative_error": self.relative_error if finite else None,
        }


def compare_layers(
    package: Package, variant: str, *, threads: int | None = None
) -> list[LayerError]:
    """Compare all floating-point values that a variant and fp32 both have.

    Both run in ONNX Runtime on the CPU, on the phantom tile. Values are returned in groups, so
    that memory stays bounded; returning them keeps ONNX Runtime from fusing some operators.

    Parameters
    ----------
    package, variant
        What to compare.
    threads
        Threads for one tile; None takes every processor this process may use.

    Returns
    -------
    list of LayerError
        In the order of the graph.
    """
    manifest = package.manifest
    reference, other = (
        onnx.load_from_string(package.read(manifest.variants[name].file))
        for name in ("fp32", variant)
    )
    sizes = tensor_bytes(reference).keys()
    shared = sizes & {name for node in other.graph.node for name in node.output}
    operators = {name: node.op_type for node in reference.graph.node for name in node.output}
    tile = reference_tile(manifest.preprocessing, manifest.tiling)
    errors: list[LayerError] = []
    wanted = [name for name in operators if name in shared]
    for group in tensor_groups(reference, wanted, _BUDGET_BYTES // 2):
        expected, found = (_run(model, group, tile, threads) for model in (reference, other))
        errors += [
            LayerError(name, operators[name], _relative_error(a, b))
            for name, a, b in zip(group, found, expected, strict=True)
            if a.dtype.kind == b.dtype.kind == "f" and a.size
        ]
    return errors


def _run(
    model: onnx.ModelProto, group: tuple[str, ...], tile: np.ndarray, threads: int | None
) -> list[np.ndarray]:
    session = open_network(watched_network(model, group), threads=threads or available_processors())
    arrays: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: tile})
    return arrays


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    error = float(np.abs(found.astype(np.float64) - expected).max())
    if error == 0:
        return 0.0
    span = float(np.ptp(expected)) or float(np.abs(expected).max())
    return error / span if np.isfinite(error) and span else float("inf")
