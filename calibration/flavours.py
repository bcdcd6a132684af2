"""Form of an int8 graph for each kind of backend; the scales are the same for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from segmaformer.calibration.layers import Layer, LayerKind

LEAST_CHANNELS = 8
"""Fewest input and output channels worth quantising. With fewer, most lanes of an int8 dot
product are empty: an embedding of four channels ran 1.7 times slower in ONNX Runtime, and
TensorRT pads to as many."""


@dataclass(frozen=True)
class Flavour:
    """Form of int8 for one kind of backend.

    Attributes
    ----------
    variant
        Name of the package's variant; its file is the same with underscores.
    kinds
        Kinds of layers that run faster in int8 there.
    unsigned_activations
        Whether activations are uint8 around 128 rather than int8 around 0: the same steps.
    rounds_conv_outputs
        Whether outputs of convolutions are rounded too.
    integer_bias
        Whether biases are int32 in units of the products, which rounds them far below a step.
    """

    variant: str
    kinds: frozenset[LayerKind]
    unsigned_activations: bool
    rounds_conv_outputs: bool
    integer_bias: bool

    @property
    def file(self) -> str:
        """Name of the variant's file."""
        return f"{self.variant.replace('-', '_')}.onnx"

    @property
    def zero_point(self) -> np.ndarray:
        """Scalar zero point, in the element type of activations."""
        return np.array(128, np.uint8) if self.unsigned_activations else np.array(0, np.int8)

    def candidates(self, layers: Iterable[Layer]) -> tuple[Layer, ...]:
        """Return the layers worth quantising here; the last projection never is."""
        return tuple(layer for layer in layers if self.objection(layer) is None)

    def objection(self, layer: Layer) -> str | None:
        """Return the reason why a layer is no candidate; None for a candidate."""
        if layer.is_last:
            return "the last projection"
        if min(layer.channels) < LEAST_CHANNELS:
            return f"fewer than {LEAST_CHANNELS} channels"
        return None if layer.kind in self.kinds else f"{layer.kind}: nothing gained here"

    def observed(self, layers: Iterable[Layer]) -> tuple[str, ...]:
        """Return the tensors whose ranges these layers need, each once."""
        names = dict.fromkeys(layer.activation for layer in layers)
        if self.rounds_conv_outputs:
            names.update(dict.fromkeys(layer.output for layer in layers if layer.is_convolution))
        return tuple(names)


_DENSE: frozenset[LayerKind] = frozenset({"conv", "pointwise", "matmul"})

TENSORRT = Flavour(
    "int8",
    kinds=_DENSE,
    unsigned_activations=False,
    rounds_conv_outputs=False,
    integer_bias=False,
)
"""TensorRT takes only zero points of 0 and no int32 bias; it fuses what follows a convolution."""

CPU = Flavour(
    "int8-cpu",
    kinds=_DENSE | {"depthwise"},
    unsigned_activations=True,
    rounds_conv_outputs=True,
    integer_bias=True,
)
"""ONNX Runtime has an integer convolution only where input, output and bias are integers, and
runs depthwise ones about twice as fast so; its integer matrix product gives float32."""

FLAVOURS = (TENSORRT, CPU)
