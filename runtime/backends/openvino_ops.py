"""Ops of the domain ``segmaformer`` for OpenVINO, computed by the op library's kernels.

OpenVINO calls an op back in Python with its own memory, so nothing is copied, and nothing is built
for a version of it; a call costs about 0.2 ms beside the op itself.

OpenVINO's convolutions keep channels innermost in memory, whatever the order of the axes. So a
channel-major norm is computed by the token-major kernel between two transposes, which OpenVINO
recognises as views of the same memory; for the channel-major kernel it would copy a volume before
and after, at several times the cost of the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import openvino
from openvino.frontend.onnx import ConversionExtension

from segmaformer.runtime.bindings.kernel_structs import FLOAT16, FLOAT32, SelectiveScanArgs
from segmaformer.runtime.bindings.op_library import run_selective_scan
from segmaformer.runtime.bindings.token_ops import (
    INPUT_COUNTS,
    TokenOpAttributes,
    result_shape,
    run_token_op,
)
from segmaformer.runtime.errors import BackendError

__all__ = ["op_extensions"]

_DOMAIN, _SCAN = "segmaformer", "SelectiveScan"
_SCAN_FLAGS = ("delta_softplus", "reverse")
_SCAN_INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
_ELEMENTS = {"float32": FLOAT32, "float16": FLOAT16}
_ABSENT = "NullNode"
_VOLUME_NORM, _VOLUME_NORM_ADD = "InstanceNorm", "InstanceNormAdd"
_TOKEN_NORM = "InstanceNormTokens"
_TO_TOKENS, _TO_CHANNELS = (0, 2, 3, 4, 1), (0, 4, 1, 2, 3)
_LEAST_CHANNELS = 8
"""Channels that the token-major norm needs for a vector; a group norm has fewer."""


@dataclass(frozen=True)
class _Settings:
    """Description of a node beside its tensors.

    Attributes
    ----------
    attributes
        Attributes, by which OpenVINO tells nodes of one type apart.
    shape
        Function from the shapes of the inputs to that of the output.
    compute
        Function that writes the output, its second argument.
    errors
        Receives what `compute` raises: on one thread OpenVINO itself loses it.
    """

    attributes: Mapping[str, Any]
    shape: Callable[[Sequence[Any]], Any]
    compute: Callable[[Sequence[np.ndarray], np.ndarray], None]
    errors: list[Exception]


class NativeOp(openvino.Op):  # type: ignore[misc]  # OpenVINO ships no types
    """One node. OpenVINO calls the methods, and names the type after the class."""

    def __init__(self, inputs: Sequence[Any], settings: _Settings):
        super().__init__(self)
        self.settings = settings  # before the inputs are set, which asks for the output's shape
        self.set_arguments(list(inputs))
        self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        """Set the output's type to that of the first input, and its shape."""
        shapes = [self.get_input_partial_shape(i) for i in range(self.get_input_size())]
        self.set_output_type(0, self.get_input_element_type(0), self.settings.shape(shapes))

    def clone_with_new_inputs(self, inputs: Sequence[Any]) -> NativeOp:
        """Make the same op for another place in a graph."""
        return type(self)(inputs, self.settings)

    def visit_attributes(self, visitor: Any) -> bool:
        """Show the attributes to OpenVINO."""
        visitor.on_attributes(dict(self.settings.attributes))
        return True

    def has_evaluate(self) -> bool:
        """Tell OpenVINO that the op computes."""
        return True

    def evaluate(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> bool:
        """Compute `outputs` from `inputs`, OpenVINO's tensors."""
        try:
            self.settings.compute([tensor.data for tensor in inputs], outputs[0].data)
        except Exception as error:
            self.settings.errors.append(error)
            raise
        return True


_CLASSES = {name: type(name, (NativeOp,), {}) for name in (_SCAN, *INPUT_COUNTS)}


def op_extensions(threads: int, errors: list[Exception]) -> list[ConversionExtension]:
    """Return extensions for OpenVINO's reader of ONNX, which reads no function bodies.

    Parameters
    ----------
    threads
        Number of threads for one op.
    errors
        Receives what ops raise. Whoever runs the network looks here afterwards: on one thread
        OpenVINO goes on with whatever the memory of the output holds.
    """
    token_ops = [
        ConversionExtension(op, _DOMAIN, partial(_convert_token_op, op, threads, errors))
        for op in INPUT_COUNTS
    ]
    scan = ConversionExtension(_SCAN, _DOMAIN, partial(_convert_scan, threads, errors))
    return [scan, *token_ops]


def _convert_scan(threads: int, errors: list[Exception], node: Any) -> Any:
    given = [node.get_input(index) for index in range(node.get_input_size())]
    named = {
        name: value
        for name, value in zip(_SCAN_INPUTS, given, strict=False)
        if value.get_node().get_type_name() != _ABSENT
    }
    if missing := [name for name in _SCAN_INPUTS[:5] if name not in named]:
        raise BackendError(f"a {_SCAN} node has no {', '.join(missing)}")
    flags = {name: int(node.get_attribute(name, 0)) for name in _SCAN_FLAGS}
    compute = partial(_compute_scan, tuple(named), flags, threads)
    settings = _Settings(flags, lambda shapes: shapes[0], compute, errors)
    return _CLASSES[_SCAN](list(named.values()), settings).outputs()


def _compute_scan(
    names: Sequence[str],
    flags: Mapping[str, int],
    threads: int,
    inputs: Sequence[np.ndarray],
    out: np.ndarray,
) -> None:
    arrays = dict(zip(names, inputs, strict=True))
    u = arrays["u"]
    batch, length, channels = u.shape
    args = SelectiveScanArgs(
        element_type=_ELEMENTS[u.dtype.name],
        batch=batch,
        length=length,
        channels=channels,
        states=arrays["A"].shape[1],
        y=_address(out),
        **{name: _address(array) for name, array in arrays.items()},
        **flags,
    )
    run_selective_scan(args, threads=threads)


def _address(array: np.ndarray) -> int:
    # Takes a quarter of array.ctypes.data's time, nine times a call.
    address: int = array.__array_interface__["data"][0]
    return address


def _convert_token_op(op: str, threads: int, errors: list[Exception], node: Any) -> Any:
    inputs = [node.get_input(index) for index in range(node.get_input_size())]
    if op in _OWN:
        return _OWN[op](node, inputs)
    is_norm = op in (_VOLUME_NORM, _VOLUME_NORM_ADD)
    if not is_norm or not _has_many_channels(inputs[0].get_partial_shape()):
        return _token_op(op, threads, errors, node, inputs).outputs()
    return _volume_norm(threads, errors, node, inputs).outputs()


def _volume_norm(threads: int, errors: list[Exception], node: Any, inputs: Sequence[Any]) -> Any:
    """Convert to the token-major norm; OpenVINO itself adds a residual and what follows it."""
    from openvino import opset8

    volume, scale, bias, *rest = inputs
    slope = node.get_attribute("alpha", 1.0)
    attributes = _attributes(node) | {"alpha": 1.0 if rest else slope}
    tokens = opset8.transpose(volume, list(_TO_TOKENS)).output(0)
    normed = _native_op(_TOKEN_NORM, threads, errors, attributes, [tokens, scale, bias])
    normed_volume = opset8.transpose(normed.output(0), list(_TO_CHANNELS))
    if not rest:
        return normed_volume
    return opset8.prelu(opset8.add(normed_volume, *rest), np.array([slope], np.float32))


def _conv(node: Any, inputs: Sequence[Any]) -> Any:
    """Convert to OpenVINO's own convolution: copies to another layout cost more than is won."""
    from openvino import opset8

    x, weight, bias, *rest = inputs
    if rest:
        x = opset8.concat([x, *rest], 1).output(0)
    pads, ones = node.get_attribute("pads"), [1] * 3
    strides = node.get_attribute("strides", ones)
    convolved = opset8.convolution(x, weight, strides, pads[:3], pads[3:], ones)
    along_channels = opset8.unsqueeze(bias, [0, 2, 3, 4])
    return opset8.add(convolved, along_channels).outputs()


def _conv_transpose(node: Any, inputs: Sequence[Any]) -> Any:
    """Convert to OpenVINO's own transposed convolution, for the same reason."""
    from openvino import opset8

    x, weight, bias = inputs
    strides = node.get_attribute("strides")
    enlarged = opset8.convolution_backprop_data(x, weight, strides)
    along_channels = opset8.unsqueeze(bias, [0, 2, 3, 4])
    return opset8.add(enlarged, along_channels).outputs()


def _norm_linear(node: Any, inputs: Sequence[Any]) -> Any:
    """Convert to OpenVINO's own operators, which it fuses, and which need no call of Python."""
    from openvino import opset8

    x, weight, bias, scale, shift = inputs
    normed = opset8.mvn(x, [-1], True, node.get_attribute("epsilon", 1e-5), "inside_sqrt")
    scaled = opset8.add(opset8.multiply(normed, scale), shift)
    return opset8.add(opset8.matmul(scaled, weight, False, False), bias).outputs()


def _linear_add(node: Any, inputs: Sequence[Any]) -> Any:
    """Convert to OpenVINO's own operators, for the same reason."""
    from openvino import opset8

    x, weight, bias, rest = inputs
    biased = opset8.add(opset8.matmul(x, weight, False, False), bias)
    return opset8.add(biased, rest).outputs()


def _upsample_nearest(node: Any, inputs: Sequence[Any]) -> Any:
    """Convert to OpenVINO's own operator, which knows its layouts."""
    from openvino import opset11

    scales = np.array(node.get_attribute("scales"), np.float32)
    return opset11.interpolate(
        inputs[0],
        scales,
        "nearest",
        "scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=[2, 3, 4],
    ).outputs()


_OWN = {
    "Conv3d": _conv,
    "ConcatConv3d": _conv,
    "ConvTranspose3d": _conv_transpose,
    "NormLinear": _norm_linear,
    "LinearAdd": _linear_add,
    "UpsampleNearest": _upsample_nearest,
}
"""Ops that OpenVINO computes by itself, and their conversions."""


def _has_many_channels(shape: Any) -> bool:
    known = shape.rank.is_static and len(shape) == len(_TO_TOKENS) and shape[1].is_static
    return known and shape[1].get_length() >= _LEAST_CHANNELS


def _token_op(
    op: str, threads: int, errors: list[Exception], node: Any, inputs: Sequence[Any]
) -> NativeOp:
    """Make the op `op` on `inputs`, with the attributes of `node`."""
    return _native_op(op, threads, errors, _attributes(node), inputs)


def _attributes(node: Any) -> dict[str, Any]:
    defaults = asdict(TokenOpAttributes())
    return {name: node.get_attribute(name, default) for name, default in defaults.items()}


def _native_op(
    op: str,
    threads: int,
    errors: list[Exception],
    given: dict[str, Any],
    inputs: Sequence[Any],
) -> NativeOp:
    tuples: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    attributes = TokenOpAttributes(**tuples)
    settings = _Settings(
        given,
        partial(_token_op_shape, op, attributes),
        lambda arrays, out: run_token_op(op, arrays, attributes, out, threads=threads),
        errors,
    )
    return _CLASSES[op](inputs, settings)


def _token_op_shape(op: str, attributes: TokenOpAttributes, shapes: Sequence[Any]) -> Any:
    if "Linear" in op:
        return _linear_shape(shapes, axis=1)
    if op == "FoldedNorm":
        return _linear_shape(shapes, axis=0, more=1)
    if op not in ("PatchEmbed", "Upsample"):
        return result_shape(op, shapes, attributes)
    if any(shape.rank.is_dynamic for shape in shapes):
        return openvino.PartialShape.dynamic()
    if op == "PatchEmbed":
        return _patch_embed_shape(attributes, shapes)
    factors = (1, 1, *(int(scale) for scale in attributes.scales))
    return openvino.PartialShape(
        [
            n.get_length() * factor if n.is_static else -1
            for n, factor in zip(shapes[0], factors, strict=True)
        ]
    )


def _linear_shape(shapes: Sequence[Any], *, axis: int, more: int = 0) -> Any:
    """Infer a shape as that of x, but for its channels: an extent of the weight and `more`."""
    x, weight = shapes[:2]
    if x.rank.is_dynamic or weight.is_dynamic:
        return openvino.PartialShape.dynamic()
    return openvino.PartialShape([*list(x)[:-1], weight.to_shape()[axis] + more])


def _patch_embed_shape(attributes: TokenOpAttributes, shapes: Sequence[Any]) -> Any:
    """Infer the shape of the result; unknown if more than the batch is free."""
    batch, *extents = shapes[0]
    if shapes[1].is_dynamic or any(n.is_dynamic for n in extents):
        return openvino.PartialShape.dynamic()
    known = [(1, *(n.get_length() for n in extents)), shapes[1].to_shape()]
    return openvino.PartialShape([batch, *result_shape("PatchEmbed", known, attributes)[1:]])
