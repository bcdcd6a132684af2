"""Ops of sgmf/token_ops.h: their definitions in float64, and bounds of their rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erf, expit

from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, result_shape, run_token_op

Arrays = list[np.ndarray]

ROUNDING = 2.0**-24  # of one float32 operation, relative


@dataclass(frozen=True)
class Case:
    """Inputs of one op."""

    op: str
    inputs: tuple[np.ndarray, ...]
    attributes: TokenOpAttributes


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Draw standard normal float32."""
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def conv_case(
    x: tuple[int, ...],
    outputs: int,
    depth_taps: int = 3,
    strides: tuple[int, int, int] = (1, 1, 1),
    *,
    plane_taps: int = 3,
) -> Case:
    """Make x of shape `x` (B, C, D, H, W)."""
    taps = (depth_taps, plane_taps, plane_taps)
    inputs = draw(*x), draw(outputs, x[1], *taps), draw(outputs)
    attributes = TokenOpAttributes(strides=strides, pads=tuple(n // 2 for n in taps * 2))
    return Case("Conv3d", inputs, attributes)


def concat_conv_case(
    x: tuple[int, ...], rest: int, outputs: int, depth_taps: int = 3, *, plane_taps: int = 3
) -> Case:
    """Make x of shape `x` (B, C, D, H, W), and `rest` channels beside it."""
    batch, channels, *extents = x
    shape = (batch, channels + rest, *extents)
    of_both = conv_case(shape, outputs, depth_taps, plane_taps=plane_taps)
    both, weight, bias = of_both.inputs
    parts = np.ascontiguousarray(both[:, :channels]), np.ascontiguousarray(both[:, channels:])
    return Case("ConcatConv3d", (parts[0], weight, bias, parts[1]), of_both.attributes)


def conv_transpose_case(x: tuple[int, ...], outputs: int, taps: tuple[int, int, int]) -> Case:
    """Make x of shape `x` (B, C, D, H, W), each voxel of which becomes `taps` outputs."""
    inputs = draw(*x), draw(x[1], outputs, *taps), draw(outputs)
    return Case("ConvTranspose3d", inputs, TokenOpAttributes(strides=taps))


def depthwise_case(*shape: int) -> Case:
    """Make x of `shape` (B, D, H, W, C)."""
    channels = shape[-1]
    inputs = draw(*shape), draw(channels, 1, 3, 3, 3), draw(channels)
    return Case("DepthwiseConv3d", inputs, TokenOpAttributes(group=channels))


def norm_case(op: str, *shape: int, alpha: float = 1.0) -> Case:
    """Make x of `shape` (B, D, H, W, C), each channel about a mean of its own."""
    channels = shape[-1]
    x = draw(*shape) + 5 * draw(channels, seed=1)
    attributes = TokenOpAttributes(alpha=alpha)
    return Case(op, (x, draw(channels, seed=2), draw(channels, seed=3)), attributes)


def volume_norm_case(*shape: int, alpha: float = 1.0) -> Case:
    """Make x of `shape` (B, C, ...), each channel about a mean of its own."""
    channels = shape[1]
    x = draw(*shape) + 5 * draw(channels, seed=1).reshape(-1, *[1] * (len(shape) - 2))
    attributes = TokenOpAttributes(alpha=alpha)
    return Case("InstanceNorm", (x, draw(channels, seed=2), draw(channels, seed=3)), attributes)


def volume_norm_add_case(*shape: int, alpha: float = 1.0) -> Case:
    """Make x of `shape` (B, C, ...), each channel about a mean of its own, and a residual."""
    case = volume_norm_case(*shape, alpha=alpha)
    inputs = (*case.inputs, draw(*shape, seed=4))
    return replace(case, op="InstanceNormAdd", inputs=inputs)


def upsample_case(low: tuple[int, ...], scales: tuple[int, ...]) -> Case:
    """Make x of shape `low` (B, C, d, h, w)."""
    return Case("Upsample", (draw(*low),), TokenOpAttributes(scales=scales))


def upsample_nearest_case(low: tuple[int, ...], scales: tuple[int, ...]) -> Case:
    """Make x of shape `low` (B, C, d, h, w)."""
    return replace(upsample_case(low, scales), op="UpsampleNearest")


def upsample_add_case(low: tuple[int, ...], scales: tuple[int, ...]) -> Case:
    """Make x of shape `low` (B, d, h, w, C)."""
    batch, *extents, channels = low
    high = (batch, *(n * s for n, s in zip(extents, scales, strict=True)), channels)
    inputs = draw(*low), draw(*high, seed=1)
    return Case("UpsampleAdd", inputs, TokenOpAttributes(scales=scales))


def causal_case(shape: tuple[int, int, int], taps: int, before: int | None = None) -> Case:
    """Make x of `shape` (B, L, C); by default all taps but the last look back."""
    channels = shape[-1]
    before = taps - 1 if before is None else before
    inputs = draw(*shape), draw(channels, 1, taps), draw(channels)
    attributes = TokenOpAttributes(group=channels, pads=(before, taps - 1 - before))
    return Case("CausalConv1dSilu", inputs, attributes)


def patch_case(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    strides: tuple[int, int, int],
    pads: tuple[int, ...] = (0,) * 6,
) -> Case:
    """Make x of shape `x` (B, Cin, D, H, W) and a weight (Cout, Cin, kd, kh, kw)."""
    inputs = draw(*x), draw(*weight), draw(weight[0])
    return Case("PatchEmbed", inputs, TokenOpAttributes(strides=strides, pads=pads))


def rotary_case(*volume: int, half: int) -> Case:
    """Make x of shape (*volume, 6 half), turned by any angles."""
    angles = 3 * draw(sum(volume[1:]), half)
    cos, sin = np.cos(angles), np.sin(angles)
    tables = np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)
    weights = draw(6 * half, seed=2), draw(6 * half, seed=3)
    return Case("RotaryNorm", (draw(*volume, 6 * half), *tables, *weights), TokenOpAttributes())


def norm_linear_case(tokens: tuple[int, ...], inputs: int, outputs: int) -> Case:
    """Make x of shape (*tokens, inputs), each token about a mean of its own."""
    x = draw(*tokens, inputs) + 5 * draw(*tokens, 1, seed=1)
    weights = draw(inputs, outputs), draw(outputs)
    return Case(
        "NormLinear",
        (x, *weights, draw(inputs, seed=2), draw(inputs, seed=3)),
        TokenOpAttributes(),
    )


def linear_add_case(tokens: tuple[int, ...], inputs: int, outputs: int) -> Case:
    """Make x of shape (*tokens, inputs)."""
    arrays = draw(*tokens, inputs), draw(inputs, outputs), draw(outputs)
    return Case("LinearAdd", (*arrays, draw(*tokens, outputs, seed=1)), TokenOpAttributes())


def folded_norm_case(tokens: tuple[int, ...], inputs: int, outputs: int) -> Case:
    """Make x of shape (*tokens, inputs)."""
    arrays = draw(*tokens, inputs), draw(inputs, outputs), draw(outputs)
    return Case("FoldedNorm", arrays, TokenOpAttributes())


def gelu_linear_add_case(volume: tuple[int, ...], inputs: int, outputs: int) -> Case:
    """Make x of shape (*volume, inputs), each channel about a mean of its own."""
    x, scale, shift = norm_case("InstanceNormGelu", *volume, inputs).inputs
    arrays = x, draw(inputs, outputs), draw(outputs), scale, shift, draw(*volume, outputs, seed=1)
    return Case("InstanceNormGeluLinearAdd", arrays, TokenOpAttributes())


def relu_linear_case(volume: tuple[int, ...], inputs: int, outputs: int) -> Case:
    """Make x of shape (*volume, inputs), each channel about a mean of its own."""
    arrays = gelu_linear_add_case(volume, inputs, outputs).inputs[:-1]
    return Case("InstanceNormReluLinear", arrays, TokenOpAttributes())


def linear_upsample_add_case(
    low: tuple[int, ...], scales: tuple[int, ...], inputs: int, outputs: int
) -> Case:
    """Make x whose extents are those of `low` (B, d, h, w) times `scales`.

    The first coarse volume has these extents, the second those of x, and the third one voxel.
    """
    batch, *extents = low
    high = tuple(n * s for n, s in zip(extents, scales, strict=True))
    coarse = (
        draw(batch, *each, outputs, seed=i)
        for i, each in enumerate((tuple(extents), high, (1, 1, 1)))
    )
    x = draw(batch, *high, inputs)
    arrays = x, draw(inputs, outputs), draw(outputs), *coarse
    return Case("LinearUpsampleAdd", arrays, TokenOpAttributes())


def run(case: Case, *, threads: int = 1, isa: str | None = None) -> np.ndarray:
    """Run the op library."""
    shapes = [array.shape for array in case.inputs]
    out = np.full(result_shape(case.op, shapes, case.attributes), np.nan, np.float32)
    run_token_op(case.op, case.inputs, case.attributes, out, threads=threads, isa=isa)
    return out


def reference(case: Case) -> np.ndarray:
    """Compute the definition in float64."""
    inputs = [array.astype(np.float64) for array in case.inputs]
    return _DEFINITIONS[case.op](inputs, case.attributes)


def assert_close(found: np.ndarray, case: Case) -> None:
    """Check that `found` is the definition but for the roundings of the op's own sums.

    Each bound counts an op's roundings, twice since the portable version does not fuse
    products into sums, and multiplies them with the magnitudes that are added up.
    """
    expected = reference(case)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    error = np.abs(found - expected)
    assert not np.isnan(error).any()
    excess = error - 2 * ROUNDING * _ROUNDINGS[case.op](case)
    assert excess.max(initial=-1.0) <= 0, f"error {error.max():.2e}"


def _depthwise(inputs: Arrays, _: TokenOpAttributes) -> np.ndarray:
    x, weight, bias = inputs
    depth, height, width = x.shape[1:4]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    y = np.broadcast_to(bias, x.shape).copy()
    for i, j, k in np.ndindex(3, 3, 3):
        y += padded[:, i : i + depth, j : j + height, k : k + width] * weight[:, 0, i, j, k]
    return y


def _normalised(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, scale, bias = inputs
    mean, variance = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    return (x - mean) / np.sqrt(variance + attributes.epsilon) * scale + bias


def _gelu(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x = _normalised(inputs, attributes)
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def _relu(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    return np.maximum(_normalised(inputs, attributes), 0)


def _leaky(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    y = _normalised(inputs, attributes)
    return np.where(y > 0, y, attributes.alpha * y)


def _volume_norm(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, *others = inputs
    tokens = np.moveaxis(x.reshape(*x.shape[:2], *[1] * (5 - x.ndim), *x.shape[2:]), 1, -1)
    return np.moveaxis(_leaky([tokens, *others], attributes), -1, 1).reshape(x.shape)


def _volume_norm_add(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    *of_norm, rest = inputs
    y = _volume_norm(of_norm, replace(attributes, alpha=1.0)) + rest
    return np.where(y > 0, y, attributes.alpha * y)


def _upsample_axes(x: np.ndarray, first: int, scales: Sequence[float]) -> np.ndarray:
    for axis, scale in enumerate(scales, first):
        low = x.shape[axis]
        positions = (np.arange(low * int(scale)) + 0.5) / scale - 0.5
        weights = [np.interp(positions, np.arange(low), unit) for unit in np.eye(low)]
        x = np.moveaxis(np.tensordot(x, np.array(weights), (axis, 0)), -1, axis)
    return x


def _upsample(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    return _upsample_axes(inputs[0], 2, attributes.scales)


def _upsample_nearest(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x = inputs[0]
    for axis, scale in enumerate(attributes.scales, 2):
        x = np.repeat(x, int(scale), axis)
    return x


def _upsample_add(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    return inputs[1] + _upsample_axes(inputs[0], 1, attributes.scales)


def _causal_sum(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, weight, bias = inputs
    padded = np.pad(x, ((0, 0), attributes.pads, (0, 0)))
    taps = range(weight.shape[2])
    return bias + sum(padded[:, k : k + x.shape[1]] * weight[:, 0, k] for k in taps)


def _causal(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x = _causal_sum(inputs, attributes)
    return x * expit(x)


def _conv(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    return np.moveaxis(_patch_embed(inputs, attributes), -1, 1)


def _concat_conv(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    joined = _joined(Case("ConcatConv3d", tuple(inputs), attributes))
    return _conv(list(joined.inputs), attributes)


def _conv_transpose(inputs: Arrays, _: TokenOpAttributes) -> np.ndarray:
    x, weight, bias = inputs
    blocks = np.einsum("bcdhw,ckijl->bkdihjwl", x, weight)
    extents = (n * taps for n, taps in zip(x.shape[2:], weight.shape[2:], strict=True))
    return blocks.reshape(len(x), weight.shape[1], *extents) + bias.reshape(-1, 1, 1, 1)


def _joined(case: Case) -> Case:
    x, weight, bias, rest = case.inputs
    return Case("Conv3d", (np.concatenate([x, rest], 1), weight, bias), case.attributes)


def _patch_embed(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, weight, bias = inputs
    pads = zip(attributes.pads[:3], attributes.pads[3:], strict=True)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3, 4))
    d, h, w = attributes.strides
    return np.tensordot(windows[:, :, ::d, ::h, ::w], weight, ((1, 5, 6, 7), (1, 2, 3, 4))) + bias


def _layer_norm(case: Case) -> np.ndarray:
    x, _, _, scale, shift = (array.astype(np.float64) for array in case.inputs)
    mean, variance = (f(x, axis=-1, keepdims=True) for f in (np.mean, np.var))
    return (x - mean) / np.sqrt(variance + case.attributes.epsilon) * scale + shift


def _turned(inputs: Arrays) -> np.ndarray:
    x, *tables = inputs[:3]
    thirds = []
    for axis, third in enumerate(np.split(x, 3, -1)):
        begin = sum(x.shape[1 : 1 + axis])
        shape = [x.shape[1 + i] if i == axis else 1 for i in range(3)]
        cos, sin = (
            table[begin : begin + x.shape[1 + axis]].reshape(*shape, -1) for table in tables
        )
        u, v = np.split(third, 2, -1)
        thirds.append(third * cos + np.concatenate([v, u], -1) * sin)
    return np.concatenate(thirds, -1)


def _rotary_norm(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    turned, none = _turned(inputs), np.zeros(0)
    return _layer_norm(Case("NormLinear", (turned, none, none, *inputs[3:]), attributes))


def _norm_linear(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    case = Case("NormLinear", tuple(inputs), attributes)
    return _layer_norm(case) @ inputs[1] + inputs[2]


def _linear_add(inputs: Arrays, _: TokenOpAttributes) -> np.ndarray:
    x, weight, bias, rest = inputs
    return x @ weight + bias + rest


def _folded_norm(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, weight, bias = inputs
    both = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    squares = ((x @ weight + bias) ** 2).sum(-1, keepdims=True)
    return both / np.sqrt(squares + attributes.epsilon)


def _gelu_linear_add(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, weight, bias, scale, shift, rest = inputs
    return _linear_add([_gelu([x, scale, shift], attributes), weight, bias, rest], attributes)


def _relu_linear(inputs: Arrays, attributes: TokenOpAttributes) -> np.ndarray:
    x, weight, bias, scale, shift = inputs
    return _relu([x, scale, shift], attributes) @ weight + bias


def _linear_upsample_add(inputs: Arrays, _: TokenOpAttributes) -> np.ndarray:
    x, weight, bias, *coarse = inputs
    y = x @ weight + bias
    for low in coarse:
        scales = [n / m for n, m in zip(y.shape[1:4], low.shape[1:4], strict=True)]
        y = y + _upsample_axes(low, 1, scales)
    return y


def _magnitudes(case: Case) -> Case:
    return replace(case, inputs=tuple(np.abs(array) for array in case.inputs))


def _norm_roundings(case: Case) -> np.ndarray:
    """Bound errors by three of the scaled distance and the bias; GELU adds 2 of max(|x|, 1)."""
    x, scale, bias = (array.astype(np.float64) for array in case.inputs)
    plain = _normalised([x, np.ones_like(scale), np.zeros_like(bias)], case.attributes)
    return 4 * (np.abs(plain * scale) + np.abs(bias)) + 2


def _volume_norm_roundings(case: Case) -> np.ndarray:
    """Bound errors by three of the scaled distance and the bias, and one of the slope."""
    x, scale, bias = (array.astype(np.float64) for array in case.inputs)
    inputs = [x, np.ones_like(scale), np.zeros_like(bias)]
    plain = _volume_norm(inputs, replace(case.attributes, alpha=1.0))
    scale, bias = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias))
    return 4 * (np.abs(plain * scale) + np.abs(bias)) + 2


def _volume_norm_add_roundings(case: Case) -> np.ndarray:
    """Bound errors by those of the norm, and one of the sum."""
    *of_norm, rest = case.inputs
    norm = replace(case, op="InstanceNorm", inputs=tuple(of_norm))
    return _volume_norm_roundings(norm) + np.abs(rest.astype(np.float64))


def _conv_roundings(case: Case) -> np.ndarray:
    """Estimate errors by one for each product of the tile, which sees inputs two voxels away.

    The filter of each axis adds inputs, weights and products; their roundings mostly cancel, and
    3/2 is above what they come to.
    """
    x, weight = (np.abs(array).astype(np.float64) for array in case.inputs[:2])
    axes = sum(extent == 3 for extent in weight.shape[2:])
    largest = np.abs(x).max() * weight.sum((1, 2, 3, 4)).reshape(-1, 1, 1, 1)
    return (x.shape[1] + 4 * axes) * (largest * 1.5**axes + np.abs(case.inputs[2]).max())


def _causal_roundings(case: Case) -> np.ndarray:
    """Bound errors by one for each product and the bias, and for e^x, the sum and the quotient."""
    inputs = [array.astype(np.float64) for array in _magnitudes(case).inputs]
    return (inputs[1].shape[2] + 4) * _causal_sum(inputs, case.attributes)


def _rotary_norm_roundings(case: Case) -> np.ndarray:
    """Bound errors as of a layer norm, of values that have three roundings already."""
    inputs = [array.astype(np.float64) for array in case.inputs]
    turned, (scale, shift) = _turned(inputs), inputs[3:]
    deviation = np.sqrt(turned.var(axis=-1, keepdims=True) + case.attributes.epsilon)
    largest = 2 * np.abs(inputs[0]).max(axis=-1, keepdims=True) / deviation
    normed = np.abs(reference(case))
    of_norm = np.abs(scale) * (1 + largest) + normed + np.abs(shift)
    return np.asarray((turned.shape[-1] + 11) * of_norm)


def _norm_linear_roundings(case: Case) -> np.ndarray:
    """Bound errors by one for each product and the bias, and those of the norm.

    The mean loses one for each channel of the largest value, the scaled distance as many and
    eight more.
    """
    x, weight, bias, scale, shift = (array.astype(np.float64) for array in case.inputs)
    channels = x.shape[-1]
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + case.attributes.epsilon)
    largest = np.abs(x).max(axis=-1, keepdims=True) / deviation
    normed = np.abs(_layer_norm(case))
    of_norm = (channels + 8) * (np.abs(scale) * (1 + largest) + normed + np.abs(shift))
    products = (channels + 1) * (normed @ np.abs(weight) + np.abs(bias))
    return np.asarray(of_norm @ np.abs(weight) + products)


def _folded_norm_roundings(case: Case) -> np.ndarray:
    """Bound relative errors by one for each product of the largest, and each square, and three."""
    x, weight, bias = (array.astype(np.float64) for array in case.inputs)
    spread = x @ weight + bias
    norm = np.sqrt((spread**2).sum(-1, keepdims=True) + case.attributes.epsilon)
    of_products = (x.shape[-1] + 1) * (np.abs(x) @ np.abs(weight) + np.abs(bias))
    lost = np.sqrt((of_products**2).sum(-1, keepdims=True)) / norm
    return (lost + weight.shape[1] + 3) * np.abs(reference(case))


def _instance_norm_linear_roundings(case: Case) -> np.ndarray:
    """Bound errors by those of the norm, and one for each product, the bias and the residual."""
    x, weight, bias, scale, shift, *rest = case.inputs
    norm = Case("InstanceNormGelu", (x, scale, shift), case.attributes)
    normed = np.abs(_normalised([a.astype(np.float64) for a in norm.inputs], case.attributes))
    magnitudes = normed @ np.abs(weight) + np.abs(bias) + sum(np.abs(each) for each in rest)
    return _norm_roundings(norm) @ np.abs(weight) + (len(weight) + 2) * magnitudes


def _linear_upsample_add_roundings(case: Case) -> np.ndarray:
    x, weight, bias, *coarse = (np.abs(array) for array in case.inputs)
    largest = sum(low.max() for low in coarse)
    return (len(weight) + 4) * (x @ weight + bias + largest) + 15 * largest


_DEFINITIONS: dict[str, Callable[[Arrays, TokenOpAttributes], np.ndarray]] = {
    "Conv3d": _conv,
    "ConcatConv3d": _concat_conv,
    "ConvTranspose3d": _conv_transpose,
    "DepthwiseConv3d": _depthwise,
    "InstanceNormGelu": _gelu,
    "InstanceNormRelu": _relu,
    "InstanceNormTokens": _leaky,
    "InstanceNorm": _volume_norm,
    "InstanceNormAdd": _volume_norm_add,
    "Upsample": _upsample,
    "UpsampleNearest": _upsample_nearest,
    "UpsampleAdd": _upsample_add,
    "CausalConv1dSilu": _causal,
    "PatchEmbed": _patch_embed,
    "RotaryNorm": _rotary_norm,
    "NormLinear": _norm_linear,
    "LinearAdd": _linear_add,
    "FoldedNorm": _folded_norm,
    "InstanceNormGeluLinearAdd": _gelu_linear_add,
    "InstanceNormReluLinear": _relu_linear,
    "LinearUpsampleAdd": _linear_upsample_add,
}
_ROUNDINGS: dict[str, Callable[[Case], np.ndarray]] = {
    "Conv3d": _conv_roundings,
    "ConcatConv3d": lambda case: _conv_roundings(_joined(case)),
    # One for each product and the bias.
    "ConvTranspose3d": lambda case: (len(case.inputs[1]) + 1) * reference(_magnitudes(case)),
    "DepthwiseConv3d": lambda case: 28 * reference(_magnitudes(case)),
    "InstanceNormGelu": _norm_roundings,
    "InstanceNormRelu": _norm_roundings,
    "InstanceNormTokens": _norm_roundings,
    "InstanceNorm": _volume_norm_roundings,
    "InstanceNormAdd": _volume_norm_add_roundings,
    # Two for each of seven interpolations, of values that lie between their neighbours.
    "Upsample": lambda case: 14 * np.abs(case.inputs[0]).max(),
    "UpsampleNearest": lambda case: np.zeros(()),
    "UpsampleAdd": lambda case: 15 * sum(np.abs(array).max() for array in case.inputs),
    "CausalConv1dSilu": _causal_roundings,
    # One for each product and the bias.
    "PatchEmbed": lambda case: (case.inputs[1][0].size + 1) * reference(_magnitudes(case)),
    "RotaryNorm": _rotary_norm_roundings,
    "NormLinear": _norm_linear_roundings,
    "LinearAdd": lambda case: (len(case.inputs[1]) + 2) * reference(_magnitudes(case)),
    "FoldedNorm": _folded_norm_roundings,
    "InstanceNormGeluLinearAdd": _instance_norm_linear_roundings,
    "InstanceNormReluLinear": _instance_norm_linear_roundings,
    "LinearUpsampleAdd": _linear_upsample_add_roundings,
}
