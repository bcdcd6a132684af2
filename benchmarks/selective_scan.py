"""The selective scan: every instruction set, ONNX Runtime with and without the op, plain PyTorch.

    python benchmarks/selective_scan.py --out selective_scan.json
    python benchmarks/selective_scan.py --op-only --channels 64 --length 1769472 --states 32

Softplus, bias, skip and gate are part of the op everywhere. The first candidate is the algorithm of
mamba-ssm's published reference: two tensors of (B, D, L, N), then a Python loop over the sequence.
`--op-only` leaves it out, as at the sizes of full volumes, and shows what the kernel itself needs:
inputs and the output stand ready before memory is counted.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from turns import Run, available_threads, best_of, report, table, take_turns

Arrays = dict[str, np.ndarray]
Sizes = tuple[int, int, int]

# Floats: an array that stays in the first cache, and one that stays in none.
SMALL, REPEATS, COPIED = 4096, 512, 1 << 26
LOOP = "PyTorch, einsum and a loop over the sequence"


def make_inputs(channels: int, length: int, states: int) -> Arrays:
    """Create token-major inputs like those of a trained layer."""
    rng = np.random.default_rng(0)
    inputs = {
        "u": rng.standard_normal((1, length, channels)),
        "delta": 0.5 * rng.standard_normal((1, length, channels)),
        "A": -np.tile(np.arange(1.0, states + 1), (channels, 1)),
        "B": rng.standard_normal((1, length, states)),
        "C": rng.standard_normal((1, length, states)),
        "D": np.ones(channels),
        "z": rng.standard_normal((1, length, channels)),
        "delta_bias": np.log(np.expm1(np.exp(rng.uniform(np.log(1e-3), np.log(0.1), channels)))),
    }
    return {name: array.astype(np.float32) for name, array in inputs.items()}


def prepare_loop(sizes: Sizes) -> Run:
    """Run the reference's algorithm, on channels-first tensors as it requires."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(available_threads())
    inputs = {name: torch.from_numpy(array) for name, array in make_inputs(*sizes).items()}
    u, delta, b, c, z = (
        inputs[name].transpose(1, 2).contiguous() for name in ("u", "delta", "B", "C", "z")
    )

    @torch.no_grad()
    def run() -> np.ndarray:
        step = F.softplus(delta + inputs["delta_bias"][:, None])
        decay = torch.exp(torch.einsum("bdl,dn->bdln", step, inputs["A"]))
        drive = torch.einsum("bdl,bnl,bdl->bdln", step, b, u)
        state = torch.zeros(drive.shape[0], drive.shape[1], drive.shape[3])
        outputs = []
        for t in range(drive.shape[2]):
            state = decay[:, :, t] * state + drive[:, :, t]
            outputs.append(torch.einsum("bdn,bn->bd", state, c[:, :, t]))
        y = torch.stack(outputs, dim=2) + inputs["D"][:, None] * u
        return (y * F.silu(z)).transpose(1, 2).numpy()

    return run


def prepare_pytorch_op(sizes: Sizes) -> Run:
    """Run ``segmaformer.ops.selective_scan``."""
    import torch

    from segmaformer.ops import selective_scan

    torch.set_num_threads(available_threads())
    inputs: dict[str, Any] = {
        name: torch.from_numpy(array) for name, array in make_inputs(*sizes).items()
    }

    @torch.no_grad()
    def run() -> np.ndarray:
        return selective_scan(**inputs, delta_softplus=True).numpy()

    return run


def prepare_native(sizes: Sizes, isa: str, threads: int) -> Run:
    """Bind the C function to buffers that stay allocated."""
    from segmaformer.runtime.bindings.kernel_structs import FLOAT32, SelectiveScanArgs
    from segmaformer.runtime.bindings.op_library import run_selective_scan

    channels, length, states = sizes
    arrays = make_inputs(*sizes)
    arrays["y"] = np.ones_like(arrays["u"])  # ones: pages of zeros would not be there yet
    args = SelectiveScanArgs(
        element_type=FLOAT32,
        delta_softplus=True,
        batch=1,
        length=length,
        channels=channels,
        states=states,
        **{name: array.ctypes.data for name, array in arrays.items()},
    )

    def run() -> np.ndarray:
        run_selective_scan(args, threads=threads, isa=isa)
        return arrays["y"]

    return run


def prepare_onnxruntime(sizes: Sizes, model: bytes, registered: bool, threads: int) -> Run:
    """Run one node in ONNX Runtime: with the op library's kernel, or the function body alone."""
    import onnxruntime

    from segmaformer.runtime.bindings.op_library import register_op_library

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if registered:
        register_op_library(options)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    arrays = make_inputs(*sizes)
    y = np.ones_like(arrays["u"])
    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_cpu_input(name, array)
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return y  # bound in place

    return run


def scan_model(sizes: Sizes) -> bytes:
    """Build a model of one SelectiveScan node with its function body."""
    from onnx import TensorProto, helper

    from segmaformer.export.function_body import add_function_body

    inputs = make_inputs(*sizes)
    node = helper.make_node(
        "SelectiveScan", list(inputs), ["y"], domain="segmaformer", delta_softplus=1
    )
    graph = helper.make_graph(
        [node],
        "scan",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, inputs["u"].shape)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("segmaformer", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    add_function_body(model)
    content: bytes = model.SerializeToString()
    return content


def candidates(sizes: Sizes) -> dict[str, Any]:
    """Return all candidates, the slowest first."""
    from segmaformer.runtime.bindings.op_library import cpu_isas

    model = scan_model(sizes)
    every = available_threads()
    counts = sorted({1, every})
    return {
        LOOP: (prepare_loop, (sizes,)),
        "ONNX Runtime, function body alone": (prepare_onnxruntime, (sizes, model, False, every)),
        **{
            f"ONNX Runtime, op library, threads {threads}": (
                prepare_onnxruntime,
                (sizes, model, True, threads),
            )
            for threads in counts
        },
        "PyTorch, segmaformer.ops.selective_scan": (prepare_pytorch_op, (sizes,)),
        **{
            f"C function, {isa}, threads {threads}": (prepare_native, (sizes, isa, threads))
            for isa in cpu_isas()
            for threads in counts
        },
    }


def op_candidates(sizes: Sizes) -> dict[str, Any]:
    """Return the op alone, on the best instruction set."""
    from segmaformer.runtime.bindings.op_library import cpu_isas

    every, isa = available_threads(), cpu_isas()[0]
    model = scan_model(sizes)
    return {
        **{
            f"C function, {isa}, threads {threads}": (prepare_native, (sizes, isa, threads))
            for threads in sorted({1, every})
        },
        f"ONNX Runtime, op library, threads {every}": (
            prepare_onnxruntime,
            (sizes, model, True, every),
        ),
    }


def floor(sizes: Sizes) -> dict[str, float]:
    """Return milliseconds to move the op's bytes once, and to compute its exponentials.

    Bytes go at the speed of a copy, exponentials at NumPy's over an array that stays in cache.
    """
    threads = available_threads()
    moved = sum(array.nbytes for array in make_inputs(*sizes).values())
    moved += 4 * sizes[0] * sizes[1]
    small = np.linspace(-8, 0, SMALL, dtype=np.float32)
    results = np.empty((threads, SMALL), np.float32)
    source = np.ones((threads, COPIED // threads), np.float32)
    target = np.ones_like(source)

    def exponentials(thread: int) -> None:
        for _ in range(REPEATS):
            np.exp(small, out=results[thread])

    with ThreadPoolExecutor(threads) as pool:
        copied_s = best_of(lambda: list(pool.map(np.copyto, target, source)))
        taken_s = best_of(lambda: list(pool.map(exponentials, range(threads))))
    return {
        "bytes_ms": 1e3 * moved * copied_s / (2 * source.nbytes),
        "exponentials_ms": 1e3 * math.prod(sizes) * taken_s / (threads * REPEATS * SMALL),
    }


def main() -> None:
    """Measure, print the table and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--length", type=int, default=32768)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--op-only", action="store_true", help="the kernel, not what it replaces")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = (options.channels, options.length, options.states)
    chosen = op_candidates(sizes) if options.op_only else candidates(sizes)
    document = report(take_turns(chosen, options.rounds), next(iter(chosen)))
    document["sizes"] = dict(zip(("channels", "length", "states"), sizes, strict=True))
    document["floor"] = floor(sizes)
    print(table(document))
    print(
        f"\nfloor: {document['floor']['bytes_ms']:.2f} ms for the bytes at a copy's speed, "
        f"{document['floor']['exponentials_ms']:.2f} ms for the exponentials at NumPy's"
    )
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
