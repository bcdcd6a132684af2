"""Observation of a network's activations over all calibration tiles, in bounded memory.

Tensors are observed in groups: each group's network returns its tensors, one tile at a time, and
only histograms are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from segmaformer.calibration.histogram import Histogram
from segmaformer.calibration.partial_state import PartialState
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report, StepProgress
from segmaformer.runtime.system.memory import MIB


@dataclass(frozen=True)
class ObservationOptions:
    """Options of an observation.

    Attributes
    ----------
    budget_mib
        Memory for the activations that one run returns, in MiB; a single tensor may take more.
    threads
        Number of threads for one tile; None uses every processor this process may use.
    state
        File that keeps the counts so far, to continue after an interruption; None keeps nothing.
        The caller removes it once results are safe.
    """

    budget_mib: int = 512
    threads: int | None = None
    state: Path | None = None


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    tiles: np.ndarray,
    options: ObservationOptions = ObservationOptions(),
    *,
    progress: StepProgress = lambda done, count: None,
    report: Report = lambda message: None,
) -> dict[str, Histogram]:
    """Count the values of `tensors` over `tiles` in histograms.

    Parameters
    ----------
    model
        The float32 network.
    tensors
        Names of values of its main graph.
    tiles
        Shape (n, C, *tile), float32; may lie on disk.
    options
        Memory, threads and the file that keeps the counts.
    progress
        Called with the runs done and their number: one for each tile and group of tensors.
    report
        Called with a line of text if an earlier state continues or cannot be used.

    Returns
    -------
    dict
        Histogram for each tensor, by name.

    Raises
    ------
    InputError
        An activation is NaN or infinite; tensor and tile are named.
    ValueError
        A tensor is not one of the network's.
    """
    groups = tensor_groups(model, tensors, options.budget_mib * MIB)
    state = PartialState.resumed(options.state, _key(model, groups, tiles), tensors, report)
    threads = options.threads or available_processors()
    runs = len(groups) * len(tiles)
    progress(state.done, runs)
    for number, group in enumerate(groups):
        first = max(0, state.done - number * len(tiles))
        if first >= len(tiles):
            continue
        session = open_network(watched_network(model, group), threads=threads)
        for index in range(first, len(tiles)):
            _count(session, group, tiles[index : index + 1], index, state.histograms)
            state.finish_run()
            progress(state.done, runs)
    state.save()
    return state.histograms


def _count(
    session: Any,
    group: Sequence[str],
    tile: np.ndarray,
    index: int,
    histograms: dict[str, Histogram],
) -> None:
    arrays = run_network(session, np.ascontiguousarray(tile))
    for name, array in zip(group, arrays, strict=True):
        try:
            histograms[name].add(array)
        except ValueError as error:
            raise InputError(
                f"{name} on calibration tile {index}: {error}; check the scan's intensities"
            ) from None


def tensor_groups(
    model: onnx.ModelProto, tensors: Sequence[str], budget_bytes: int
) -> list[tuple[str, ...]]:
    """Divide tensors, in the given order, so that each group's activations fit the budget."""
    sizes = tensor_bytes(model)
    unknown = set(tensors) - sizes.keys()
    if unknown:
        raise ValueError(f"the network has no tensor {min(unknown)}; list its layers again")
    groups: list[tuple[str, ...]] = []
    room = 0
    for name in dict.fromkeys(tensors):
        if sizes[name] > room or not groups:
            groups.append(())
            room = budget_bytes
        groups[-1] += (name,)
        room -= sizes[name]
    return groups


def tensor_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the bytes of each value of the main graph with a known shape, for a batch of one."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: 4 * int(np.prod([d.dim_value or 1 for d in value.type.tensor_type.shape.dim]))
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def watched_network(model: onnx.ModelProto, group: Sequence[str]) -> bytes:
    """Serialise the network with `group` alone as outputs; nothing else is run."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in group)
    return watched.SerializeToString()


def _key(model: onnx.ModelProto, groups: Sequence[Sequence[str]], tiles: np.ndarray) -> str:
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    digest.update(repr((groups, tiles.shape)).encode())
    for tile in tiles:
        digest.update(tile.tobytes())
    return digest.hexdigest()
