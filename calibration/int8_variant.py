"""An int8 variant: the placed graph and the layers it quantises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import onnx

from segmaformer.calibration.flavours import Flavour
from segmaformer.calibration.layers import Layer
from segmaformer.calibration.measurement import Measurement
from segmaformer.calibration.placement import place

LEAST_HELD_PARAMETERS = 4096
"""Fewest elements of a weight worth rounding if its layer computes in float32."""


@dataclass(frozen=True, eq=False)
class Int8Variant:
    """Quantised network.

    Attributes
    ----------
    flavour
        Kind of backends that it is for.
    layers
        Names of the layers that compute in int8.
    weights_only
        Names of layers that compute in float32 with weights held as int8.
    model
        The quantised graph.
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
        """Describe the variant for the manifest."""
        return {"layers": [*self.layers], "weights_only": [*self.weights_only]}


def with_large_weights(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return the layers whose weights are worth holding as int8."""
    return tuple(
        layer for layer in layers if not layer.is_last and layer.parameters >= LEAST_HELD_PARAMETERS
    )


def int8_variant(
    measurement: Measurement,
    flavour: Flavour,
    layers: Iterable[Layer] | None = None,
    *,
    weights_only: Iterable[Layer] | None = None,
) -> Int8Variant:
    """Quantise `layers`, by default every candidate; hold weights of others as int8.

    Parameters
    ----------
    measurement
        Measured network and its scales.
    flavour
        Kind of backends that it is for.
    layers
        Layers to quantise, from ``flavour.candidates(measurement.layers)``; None for all.
    weights_only
        Other layers to hold int8 weights; None for all with large weights.
    """
    wanted = set(flavour.candidates(measurement.layers) if layers is None else layers)
    chosen = tuple(layer for layer in measurement.layers if layer in wanted)
    large = with_large_weights(measurement.layers) if weights_only is None else weights_only
    held = tuple(layer for layer in large if layer not in chosen)
    model = place(measurement.model, chosen, measurement.scales, flavour, weights_only=held)
    return Int8Variant(
        flavour,
        layers=tuple(layer.name for layer in chosen),
        weights_only=tuple(layer.name for layer in held),
        model=model,
    )
