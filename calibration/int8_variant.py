"""One int8 variant: the placed graph, which layers it quantises, and how it compares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from segmaformer.calibration.flavours import Flavour
from segmaformer.calibration.layers import Layer
from segmaformer.calibration.measurement import Measurement
from segmaformer.calibration.placement import place
from segmaformer.runtime.backends.onnxruntime_cpu import available_processors, open_network
from segmaformer.runtime.manifest import Output
from segmaformer.runtime.parity import TileParity

LEAST_HELD_PARAMETERS = 4096
"""Weights below this stay float32 where their layer does: rounding them saves next to nothing."""


@dataclass(frozen=True, eq=False)
class Int8Variant:
    """A quantised network.

    Attributes
    ----------
    flavour
        For which backends.
    layers
        Names of the layers that compute in int8.
    weights_only
        Names of those that compute in float32 with weights held as int8.
    model
        The graph.
    """

    flavour: Flavour
    layers: tuple[str, ...]
    weights_only: tuple[str, ...]
    model: onnx.ModelProto = field(repr=False)

    @property
    def precision(self) -> dict[str, str]:
        """Element types, for the manifest."""
        single = dict.fromkeys(self.layers, "int8")
        return {"default": "float32", **single, **dict.fromkeys(self.weights_only, "int8 weights")}

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {"layers": [*self.layers], "weights_only": [*self.weights_only]}


def int8_variant(
    measurement: Measurement, flavour: Flavour, layers: Iterable[Layer] | None = None
) -> Int8Variant:
    """Quantise `layers`, by default every candidate; of the others hold large weights as int8.

    Parameters
    ----------
    measurement
        The network and its scales.
    flavour
        For which backends.
    layers
        Some of ``flavour.candidates(measurement.layers)``.
    """
    chosen = tuple(flavour.candidates(measurement.layers) if layers is None else layers)
    held = tuple(
        layer
        for layer in measurement.layers
        if layer not in chosen and not layer.is_last and layer.parameters >= LEAST_HELD_PARAMETERS
    )
    model = place(measurement.model, chosen, measurement.scales, flavour, weights_only=held)
    return Int8Variant(
        flavour,
        layers=tuple(layer.name for layer in chosen),
        weights_only=tuple(layer.name for layer in held),
        model=model,
    )


def compare(
    model: onnx.ModelProto,
    reference: onnx.ModelProto,
    tiles: np.ndarray,
    output: Output,
    *,
    threads: int | None = None,
) -> TileParity:
    """Compare the logits of two networks in ONNX Runtime, tile by tile.

    Parameters
    ----------
    model, reference
        Networks with the same interface.
    tiles
        Shape (n, C, *tile), float32.
    output
        Meaning of the logits.
    threads
        Threads for one tile; None takes every processor this process may use.
    """
    found, expected = (
        open_network(each.SerializeToString(), threads=threads or available_processors())
        for each in (model, reference)
    )
    parity = TileParity(output, reference="fp32 on held-out tiles")
    for tile in tiles:
        inputs = {found.get_inputs()[0].name: np.ascontiguousarray(tile)[None]}
        parity.add(*(session.run(None, inputs)[0][0] for session in (found, expected)))
    return parity
