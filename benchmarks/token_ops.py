"""The op library's ops around the scan against the standard operators, both in ONNX Runtime.

    python benchmarks/token_ops.py --out token_ops.json

Sizes are those of one 4 x 128^3 tile of SegMaFormer, for ``InstanceNorm`` of SegMamba and of the
Taming Mambas. The standard operators work channel-major, as PyTorch exports them; the results of
the causal convolution and the patch embedding are turned token-major, as what follows wants them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from turns import Result, Run, available_threads, machine, take_turns

Node = tuple[str, Sequence[str], str, dict[str, Any]]
Shape = tuple[int, ...]

_RESIZE = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}

_ACTIVATED = {"Gelu": "InstanceNormGelu", "Relu": "InstanceNormRelu"}


@dataclass(frozen=True)
class Pair:
    """One job done in two ways, both of which write ``y``.

    Attributes
    ----------
    inputs
        Shapes of what the standard operators take, channel-major.
    token_major
        Which of them the native op takes token-major; its result is, where there are any.
    standard, native
        The nodes.
    scale
        Of an upsampling.
    constants
        Which inputs are constants of the model, as weights are in a network.
    """

    inputs: dict[str, Shape]
    token_major: tuple[str, ...]
    standard: list[Node]
    native: Node
    scale: int = 1
    constants: tuple[str, ...] = ()


def depthwise(channels: int, extent: int) -> Pair:
    """Return a 3 x 3 x 3 convolution of each channel by itself."""
    x = (1, channels, *(extent,) * 3)
    return Pair(
        inputs={"x": x, "w": (channels, 1, 3, 3, 3), "b": (channels,)},
        token_major=("x",),
        standard=[("Conv", ["x", "w", "b"], "y", {"group": channels, "pads": [1] * 6})],
        native=("DepthwiseConv3d", ["x", "w", "b"], "y", {"group": channels}),
    )


def dense(channels: int, extents: Shape, depth_taps: int = 3) -> Pair:
    """Return a convolution of all channels with all."""
    taps, pad = (depth_taps, 3, 3), depth_taps // 2
    attributes = {"pads": [pad, 1, 1, pad, 1, 1]}
    shapes = {"x": (1, channels, *extents), "w": (channels, channels, *taps), "b": (channels,)}
    return Pair(
        inputs=shapes,
        token_major=(),
        standard=[("Conv", ["x", "w", "b"], "y", attributes)],
        native=("Conv3d", ["x", "w", "b"], "y", attributes),
        constants=("w", "b"),
    )


def norm(channels: int, extent: int, activation: str) -> Pair:
    """Return an InstanceNorm with an activation."""
    return Pair(
        inputs={"x": (1, channels, *(extent,) * 3), "w": (channels,), "b": (channels,)},
        token_major=("x",),
        standard=[
            ("InstanceNormalization", ["x", "w", "b"], "n", {"epsilon": 1e-5}),
            (activation, ["n"], "y", {}),
        ],
        native=(_ACTIVATED[activation], ["x", "w", "b"], "y", {"epsilon": 1e-5}),
    )


def volume_norm(channels: int, extents: Shape, alpha: float) -> Pair:
    """Return a channel-major InstanceNorm, and a leaky ReLU if its slope is below 1."""
    norm_result = "n" if alpha < 1 else "y"
    leaky: Node = ("LeakyRelu", ["n"], "y", {"alpha": alpha})
    return Pair(
        inputs={"x": (1, channels, *extents), "w": (channels,), "b": (channels,)},
        token_major=(),
        standard=[
            ("InstanceNormalization", ["x", "w", "b"], norm_result, {"epsilon": 1e-5}),
            *([leaky] if alpha < 1 else []),
        ],
        native=("InstanceNorm", ["x", "w", "b"], "y", {"epsilon": 1e-5, "alpha": alpha}),
    )


def upsample_add(channels: int, extent: int, scale: int) -> Pair:
    """Return trilinear upsampling to `extent` and a sum."""
    low, high = ((1, channels, *(n,) * 3) for n in (extent // scale, extent))
    return Pair(
        inputs={"x": low, "a": high},
        token_major=("x", "a"),
        standard=[("Resize", ["x", "", "scales"], "up", _RESIZE), ("Add", ["up", "a"], "y", {})],
        native=("UpsampleAdd", ["x", "a"], "y", {"scales": [float(scale)] * 3}),
        scale=scale,
    )


def upsample(channels: int, extent: int, scale: int) -> Pair:
    """Return trilinear upsampling of logits to `extent`."""
    return Pair(
        inputs={"x": (1, channels, *(extent // scale,) * 3)},
        token_major=(),
        standard=[("Resize", ["x", "", "scales"], "y", _RESIZE)],
        native=("Upsample", ["x"], "y", {"scales": [float(scale)] * 3}),
        scale=scale,
    )


def causal(channels: int, length: int) -> Pair:
    """Return a causal convolution of four taps, SiLU, and the transpose to token-major."""
    attributes = {"group": channels, "pads": [3, 0]}
    return Pair(
        inputs={"x": (1, channels, length), "w": (channels, 1, 4), "b": (channels,)},
        token_major=("x",),
        standard=[
            ("Conv", ["x", "w", "b"], "c", attributes),
            ("Sigmoid", ["c"], "s", {}),
            ("Mul", ["c", "s"], "t", {}),
            ("Transpose", ["t"], "y", {"perm": [0, 2, 1]}),
        ],
        native=("CausalConv1dSilu", ["x", "w", "b"], "y", attributes),
    )


def patches(channels: tuple[int, int], extent: int, kernel: int, stride: int) -> Pair:
    """Return a strided convolution, padded by half its kernel, and the transpose to token-major."""
    before, after = channels
    attributes = {"strides": [stride] * 3, "pads": [kernel // 2] * 6}
    shapes = {"x": (1, before, *(extent,) * 3), "w": (after, before, *(kernel,) * 3), "b": (after,)}
    return Pair(
        inputs=shapes,
        token_major=(),
        standard=[
            ("Conv", ["x", "w", "b"], "c", attributes),
            ("Transpose", ["c"], "y", {"perm": [0, 2, 3, 4, 1]}),
        ],
        native=("PatchEmbed", ["x", "w", "b"], "y", attributes),
        constants=("w", "b"),
    )


def norm_linear(tokens: int, before: int, after: int) -> Pair:
    """Return a LayerNorm and a product with bias."""
    return Pair(
        inputs={
            "x": (1, tokens, before),
            "w": (before, after),
            "b": (after,),
            "s": (before,),
            "t": (before,),
        },
        token_major=(),
        standard=[
            ("LayerNormalization", ["x", "s", "t"], "n", {}),
            ("MatMul", ["n", "w"], "p", {}),
            ("Add", ["p", "b"], "y", {}),
        ],
        native=("NormLinear", ["x", "w", "b", "s", "t"], "y", {"epsilon": 1e-5}),
        constants=("w", "b", "s", "t"),
    )


def linear_add(tokens: int, before: int, after: int) -> Pair:
    """Return a product with bias and residual."""
    return Pair(
        inputs={
            "x": (1, tokens, before),
            "w": (before, after),
            "b": (after,),
            "r": (1, tokens, after),
        },
        token_major=(),
        standard=[
            ("MatMul", ["x", "w"], "p", {}),
            ("Add", ["p", "b"], "q", {}),
            ("Add", ["q", "r"], "y", {}),
        ],
        native=("LinearAdd", ["x", "w", "b", "r"], "y", {}),
        constants=("w", "b"),
    )


PAIRS = {
    "Conv3d 32 x 64^3": dense(32, (64,) * 3),
    "Conv3d 64 x 48^3": dense(64, (48,) * 3),
    "Conv3d 128 x 24^3": dense(128, (24,) * 3),
    "Conv3d 256 x 16^3": dense(256, (16,) * 3),
    "Conv3d 320 x 8^3": dense(320, (8,) * 3),
    "Conv3d 1x3x3, 32 x 16 x 96^2": dense(32, (16, 96, 96), 1),
    "DepthwiseConv3d 144 x 32^3": depthwise(144, 32),
    "InstanceNormGelu 144 x 32^3": norm(144, 32, "Gelu"),
    "InstanceNormRelu 144 x 32^3": norm(144, 32, "Relu"),
    "InstanceNorm, LeakyReLU 48 x 128^3": volume_norm(48, (128,) * 3, 0.01),
    "InstanceNorm 48 x 128^3": volume_norm(48, (128,) * 3, 1.0),
    "InstanceNorm, LeakyReLU 32 x 48 x 192^2": volume_norm(32, (48, 192, 192), 0.01),
    "InstanceNorm, LeakyReLU 192 x 16^3": volume_norm(192, (16,) * 3, 0.01),
    "UpsampleAdd 256 x 16^3 to 32^3": upsample_add(256, 32, 2),
    "UpsampleAdd 256 x 8^3 to 32^3": upsample_add(256, 32, 4),
    "Upsample 3 x 32^3 to 128^3": upsample(3, 128, 4),
    "CausalConv1dSilu 72 x 32768": causal(72, 32768),
    "PatchEmbed 4 x 128^3 to 36 x 32^3": patches((4, 36), 128, 7, 4),
    "PatchEmbed 36 x 32^3 to 66 x 16^3": patches((36, 66), 32, 3, 2),
    "NormLinear 36 x 32768 to 144": norm_linear(32768, 36, 144),
    "NormLinear 66 x 4096 to 264": norm_linear(4096, 66, 264),
    "NormLinear 192 x 512 to 768": norm_linear(512, 192, 768),
    "LinearAdd 72 x 32768 to 36": linear_add(32768, 72, 36),
    "LinearAdd 768 x 512 to 192": linear_add(512, 768, 192),
}


def make_inputs(pair: Pair, native: bool) -> dict[str, np.ndarray]:
    """Draw standard normal inputs, the same for both."""
    rng = np.random.default_rng(0)
    drawn = {name: rng.standard_normal(s).astype(np.float32) for name, s in pair.inputs.items()}
    if native:
        drawn |= {name: np.moveaxis(drawn[name], 1, -1) for name in pair.token_major}
    return {name: _aligned(array) for name, array in drawn.items()}


def _aligned(array: np.ndarray) -> np.ndarray:
    """Copy an array to a multiple of 64 bytes, where ONNX Runtime would have put it."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(np.float32).reshape(array.shape)
    copy[...] = array
    return copy


def make_model(pair: Pair, native: bool) -> bytes:
    """Build the model of one way of a pair."""
    domain = "segmaformer" if native else ""
    nodes = [
        helper.make_node(op, inputs, [result], domain=domain, **attributes)
        for op, inputs, result, attributes in ([pair.native] if native else pair.standard)
    ]
    inputs = make_inputs(pair, native)
    constants = {name: inputs.pop(name) for name in pair.constants}
    scales = helper.make_tensor("scales", TensorProto.FLOAT, (5,), [1, 1, *(pair.scale,) * 3])
    graph = helper.make_graph(
        nodes,
        "pair",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            *(numpy_helper.from_array(array, name) for name, array in constants.items()),
            *([] if native else [scales]),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("segmaformer", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def prepare(name: str, native: bool, threads: int) -> Run:
    """Return the run of one way, with its result in the order of the standard operators."""
    import onnxruntime

    from segmaformer.runtime.bindings.op_library import register_op_library

    pair = PAIRS[name]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    register_op_library(options)
    session = onnxruntime.InferenceSession(
        make_model(pair, native), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    inputs = make_inputs(pair, native)
    for key, array in ((key, inputs[key]) for key in inputs if key not in pair.constants):
        binding.bind_ortvalue_input(key, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    (value,) = binding.get_outputs()
    binding.bind_ortvalue_output("y", value)  # stays where it is from now on
    y = value.numpy()
    if native and y.ndim == 5 and pair.token_major:
        y = np.moveaxis(y, -1, 1)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return y

    return run


def measure(name: str, threads: int, rounds: int) -> dict[str, Result]:
    """Measure both ways of a pair, taking turns."""
    ways = {"standard": False, "native": True}
    return take_turns(
        {way: (prepare, (name, native, threads)) for way, native in ways.items()}, rounds
    )


def main() -> None:
    """Measure, print the table and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(PAIRS), help="pairs, default all")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print("| | standard ms | fastest | native ms | fastest | ratio | of the fastest | difference |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    results = {}
    for name in options.names:
        pair = measure(name, options.threads, options.rounds)
        standard, native = pair["standard"], pair["native"]
        results[name] = {way: asdict(result) for way, result in pair.items()}
        print(
            f"| {name} | {standard.median_ms:.2f} | {standard.fastest_ms:.2f} "
            f"| {native.median_ms:.2f} | {native.fastest_ms:.2f} "
            f"| {standard.median_ms / native.median_ms:.1f} "
            f"| {standard.fastest_ms / native.fastest_ms:.1f} | {native.error:.1e} |",
            flush=True,
        )
    if options.out:
        document = {"machine": machine(), "threads": options.threads, "results": results}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
