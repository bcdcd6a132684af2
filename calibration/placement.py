"""Explicit quantisation: the places in the graph that round to int8.

A quantised layer reads its activation through a pair of QuantizeLinear and DequantizeLinear, and
its weight, held as int8, through DequantizeLinear. Everything is symmetric: activations have one
scale for a tensor, weights one for each output channel. All other layers compute in float32,
though their weights may still be held as int8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from segmaformer.calibration.flavours import Flavour
from segmaformer.calibration.layers import Layer
from segmaformer.calibration.ranges import LEVELS

_LARGEST_BIAS = 2**30


def place(
    model: onnx.ModelProto,
    layers: Iterable[Layer],
    scales: Mapping[str, float],
    flavour: Flavour,
    *,
    weights_only: Iterable[Layer] = (),
) -> onnx.ModelProto:
    """Quantise the chosen layers.

    Parameters
    ----------
    model
        Float32 network; it is not changed.
    layers
        Layers to quantise, from :func:`segmaformer.calibration.layers.find_layers` of `model`.
    scales
        Step of one int8 level for each tensor of ``flavour.observed(layers)``.
    flavour
        Kind of backends that it is for.
    weights_only
        Layers that compute in float32 with weights held as int8, for a smaller file.

    Returns
    -------
    onnx.ModelProto
        The int8 network, with the interface of `model`.

    Raises
    ------
    ValueError
        A tensor has no scale above zero, or a layer is not one of `model`.
    """
    chosen = {layer.name: layer for layer in layers}
    held = {layer.name: layer for layer in weights_only}
    unknown = {*chosen, *held} - {node.name for node in model.graph.node}
    if unknown:
        raise ValueError(f"the network has no layer {min(unknown)}; list its layers again")
    _check_scales(flavour.observed(chosen.values()), scales)
    return _Placement(model, scales, flavour).run(chosen, held)


def weight_scale(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the step of an int8 level for each channel along `axis`, float32; 1 if all is zero."""
    largest = np.abs(weight).max(axis=_others(weight, axis))
    return np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)


def _make_standard(node: onnx.NodeProto, layer: Layer) -> None:
    """Make this project's convolution ONNX's, of the same inputs and attributes.

    Runtimes have int8 kernels for that one alone; and the other packs its weights once, which
    needs them to be constants.
    """
    if layer.is_convolution:
        node.op_type, node.domain = "Conv", ""


def _rounded(weight: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    steps = np.rint(weight / np.expand_dims(scale, _others(weight, axis)))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8)


def _others(weight: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(weight.ndim) if other != axis)


def _check_scales(tensors: Iterable[str], scales: Mapping[str, float]) -> None:
    for name in tensors:
        scale = scales.get(name)
        if scale is None or not np.finfo(np.float32).tiny <= scale < np.inf:
            raise ValueError(
                f"the scale of {name} is {scale}; expected a number above zero: calibrate again"
            )


class _Placement:
    """Builder of the graph's new list of nodes, with added ones in front of their readers."""

    def __init__(self, model: onnx.ModelProto, scales: Mapping[str, float], flavour: Flavour):
        self._model, self._scales, self._flavour = model, scales, flavour
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._added: dict[str, onnx.TensorProto] = {}
        self._readable: dict[str, str] = {}
        self._weights: dict[str, tuple[str, np.ndarray]] = {}

    def run(self, chosen: Mapping[str, Layer], held: Mapping[str, Layer]) -> onnx.ModelProto:
        self._constant("int8_zero_point", self._flavour.zero_point)
        for original in self._model.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            if node.name in chosen:
                self._quantize(node, chosen[node.name])
                continue
            if node.name in held:
                _make_standard(node, held[node.name])
                node.input[1], _ = self._rounded_weight(held[node.name])
            self._nodes.append(node)
        return self._assembled()

    def _quantize(self, node: onnx.NodeProto, layer: Layer) -> None:
        _make_standard(node, layer)
        node.input[0] = self._rounded_activation(layer.activation)
        node.input[1], scale = self._rounded_weight(layer)
        if self._flavour.integer_bias and layer.bias is not None:
            node.input[2] = self._integer_bias(layer, scale)
        self._nodes.append(node)
        if self._flavour.rounds_conv_outputs and layer.is_convolution:
            node.output[0] = f"{layer.output}_product"
            self._round(node.output[0], layer.output, self._activation_scale(layer.output))
            self._readable[layer.output] = layer.output

    def _rounded_activation(self, name: str) -> str:
        if name not in self._readable:
            self._readable[name] = f"{name}_rounded"
            self._round(name, self._readable[name], self._activation_scale(name))
        return self._readable[name]

    def _activation_scale(self, name: str) -> str:
        return self._constant(f"{name}_scale", np.array(self._scales[name], np.float32))

    def _round(self, source: str, target: str, scale: str) -> None:
        levels = f"{target}_int8"
        constants = [scale, "int8_zero_point"]
        for op_type, value, result in (
            ("QuantizeLinear", source, levels),
            ("DequantizeLinear", levels, target),
        ):
            name = f"{result}_{op_type}"
            self._nodes.append(helper.make_node(op_type, [value, *constants], [result], name))

    def _rounded_weight(self, layer: Layer) -> tuple[str, np.ndarray]:
        """Return the name of the weight as float32 values of int8 levels, and its scales."""
        if layer.weight not in self._weights:
            array = numpy_helper.to_array(self._constants[layer.weight])
            scale = np.maximum(weight_scale(array, layer.axis), self._least_scale(layer))
            levels = self._constant(f"{layer.weight}_int8", _rounded(array, scale, layer.axis))
            # ONNX Runtime turns int8 weights into uint8 if a processor needs that, and only takes
            # explicit zero points then.
            zeros = self._constant(f"{levels}_zero_point", np.zeros(len(scale), np.int8))
            name = self._dequantized(levels, scale, layer.axis, zeros)
            self._weights[layer.weight] = (name, scale)
        return self._weights[layer.weight]

    def _least_scale(self, layer: Layer) -> np.ndarray:
        """Return the smallest step of the weight for which its bias fits into an int32."""
        scale = self._scales.get(layer.activation)
        if layer.bias is None or scale is None or not self._flavour.integer_bias:
            return np.zeros(1, np.float32)
        bias = numpy_helper.to_array(self._constants[layer.bias])
        return np.abs(bias / (scale * _LARGEST_BIAS)).astype(np.float32)

    def _integer_bias(self, layer: Layer, weight_scale: np.ndarray) -> str:
        bias = numpy_helper.to_array(self._constants[layer.bias or ""])
        scale = np.float32(self._scales[layer.activation]) * weight_scale
        name = f"{layer.name}_bias_int32"
        levels = self._constant(name, np.rint(bias / scale).astype(np.int32))
        return self._dequantized(levels, scale, 0)

    def _dequantized(self, levels: str, scale: np.ndarray, axis: int, *zero_points: str) -> str:
        result = f"{levels}_rounded"
        inputs = [levels, self._constant(f"{levels}_scale", scale), *zero_points]
        name = f"{result}_DequantizeLinear"
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [result], name, axis=axis))
        return result

    def _constant(self, name: str, array: np.ndarray) -> str:
        if name not in self._added:
            self._added[name] = numpy_helper.from_array(array, name)
        return name

    def _assembled(self) -> onnx.ModelProto:
        """Return the whole model, without constants that nothing reads any more."""
        graph = self._model.graph
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        placed = helper.make_model(
            helper.make_graph(
                self._nodes,
                graph.name,
                list(graph.input),
                list(graph.output),
                [*kept, *(tensor for tensor in self._added.values() if tensor.name in used)],
            ),
            functions=list(self._model.functions),
            opset_imports=list(self._model.opset_import),
            ir_version=self._model.ir_version,
            producer_name=self._model.producer_name,
            producer_version=self._model.producer_version,
        )
        onnx.checker.check_model(placed)
        return placed
