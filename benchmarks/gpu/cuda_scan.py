"""The scan on a GPU: this project's kernel, mamba-ssm's if it is installed, the memory floor.

    python benchmarks/gpu/cuda_scan.py --out cuda_scan.json
    python benchmarks/gpu/cuda_scan.py --sizes segmamba,32768x64x16 --types float16

Softplus, bias, skip and gate are part of every scan. The floor is a copy on the device that moves
as many bytes as the scan must: every input once in, y once out. Each run finds the second-level
cache full of something else; runs of all candidates take turns. The error is the largest
difference from a scan in float64 on the same, already rounded inputs, over its largest value.

Needs a GPU and PyTorch with CUDA, and this project installed with SGMF_CUDA=ON.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import math
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.runtime.bindings.cuda_library import cuda_library_path
from segmaformer.runtime.bindings.installed_library import load_library
from segmaformer.runtime.bindings.kernel_structs import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    SelectiveScanArgs,
)
from segmaformer.runtime.errors import BackendError

ELEMENT_TYPES = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}
ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
FLUSH_BYTES = 512 << 20  # more than any second-level cache

OURS, MAMBA_SSM, FLOOR = "sgmf", "mamba-ssm", "copy of the same bytes"

Run = Callable[[], Any]


@dataclass(frozen=True)
class Sizes:
    """A scan of one batch entry: tokens, channels, states."""

    length: int
    channels: int
    states: int


SIZES = {
    "segmaformer": Sizes(32768, 72, 8),  # the first stage of a 128^3 tile
    "segmamba": Sizes(262144, 96, 16),
    "segmamba-deep": Sizes(4096, 384, 16),
    "taming": Sizes(1769472, 64, 32),  # a tile of 48 x 192 x 192
    "taming-deep": Sizes(216, 640, 256),
    "common": Sizes(32768, 64, 16),  # that of selective_scan.py
}


def parse_sizes(text: str) -> dict[str, Sizes]:
    """Parse names of `SIZES` and sizes such as ``32768x64x16``, separated by commas."""
    found = {}
    for item in text.split(","):
        try:
            found[item] = SIZES[item] if item in SIZES else Sizes(*map(int, item.split("x")))
        except (TypeError, ValueError):
            raise SystemExit(
                f"{item} is neither LENGTHxCHANNELSxSTATES nor one of {', '.join(SIZES)}"
            ) from None
    return found


def parse_types(text: str) -> list[str]:
    """Parse names of element types, separated by commas."""
    types = text.split(",")
    if unknown := [name for name in types if name not in ELEMENT_TYPES]:
        raise SystemExit(f"{unknown[0]} is none of {', '.join(ELEMENT_TYPES)}")
    return types


def least_bytes(sizes: Sizes, element_type: str) -> int:
    """Count the bytes of any scan: u, delta, z, B and C in, y out, and the float32 parameters."""
    tokens = sizes.length * ELEMENT_BYTES[element_type]
    parameters = 4 * sizes.channels * (sizes.states + 2)
    return tokens * (4 * sizes.channels + 2 * sizes.states) + parameters


def make_inputs(sizes: Sizes, element_type: str, device: str) -> dict[str, Any]:
    """Create token-major tensors like those of a trained layer, and room for y."""
    import torch

    length, channels, states = sizes.length, sizes.channels, sizes.states
    generator = torch.Generator(device).manual_seed(0)
    given: dict[str, Any] = {"generator": generator, "device": device}
    steps = torch.exp(-6.9 + 4.6 * torch.rand(channels, **given))
    parameters = {
        "A": -torch.arange(1.0, states + 1).repeat(channels, 1),
        "D": torch.ones(channels),
        "delta_bias": torch.log(torch.expm1(steps)),
    }
    tokens = {
        name: torch.randn(1, length, width, **given)
        for name, width in zip(
            ("u", "delta", "z", "B", "C"), (channels,) * 3 + (states,) * 2, strict=True
        )
    }
    tokens["delta"] *= 0.5
    tokens["y"] = torch.zeros(1, length, channels)
    dtype = getattr(torch, element_type)
    return {
        **{name: tensor.to(device) for name, tensor in parameters.items()},
        **{name: tensor.to(device, dtype) for name, tensor in tokens.items()},
    }


def scan_arguments(tensors: dict[str, Any], element_type: str) -> SelectiveScanArgs:
    """Return the arguments of a C function on these tensors, which must stay alive."""
    batch, length, channels = tensors["u"].shape
    return SelectiveScanArgs(
        element_type=ELEMENT_TYPES[element_type],
        delta_softplus=1,
        batch=batch,
        length=length,
        channels=channels,
        states=tensors["A"].shape[1],
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
    )


def load_cuda_library() -> ctypes.CDLL:
    """Load the CUDA library of this installation."""
    library = load_library(cuda_library_path())
    library.sgmf_selective_scan_cuda_workspace.restype = ctypes.c_size_t
    scan = library.sgmf_selective_scan_cuda
    scan.restype = ctypes.c_char_p
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32
    scan.argtypes = address, address, size, number, address
    return library


def prepare_ours(tensors: dict[str, Any], element_type: str) -> Run:
    import torch

    library = load_cuda_library()
    args = ctypes.byref(scan_arguments(tensors, element_type))
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    size = library.sgmf_selective_scan_cuda_workspace(args, processors)
    workspace = torch.empty(max(16, size), dtype=torch.uint8, device="cuda")

    def run() -> Any:
        address, stream = workspace.data_ptr(), torch.cuda.current_stream().cuda_stream
        if error := library.sgmf_selective_scan_cuda(args, address, size, processors, stream):
            raise BackendError(error.decode())
        return tensors["y"]

    return run


def prepare_mamba_ssm(tensors: dict[str, Any], element_type: str) -> Run:
    """Scan with mamba-ssm, channels before tokens; the transposes are not measured."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    turned = {name: tensors[name].transpose(1, 2).contiguous() for name in ("u", "delta", "z")}
    b, c = (tensors[name].transpose(1, 2).contiguous() for name in ("B", "C"))
    a, skip, bias = (tensors[name] for name in ("A", "D", "delta_bias"))

    def run() -> Any:
        y = selective_scan_fn(
            turned["u"], turned["delta"], a, b, c, skip, turned["z"], bias, delta_softplus=True
        )
        return y.transpose(1, 2)

    return run


def prepare_floor(tensors: dict[str, Any], element_type: str) -> Run:
    import torch

    length, channels = tensors["u"].shape[1:]
    sizes = Sizes(length, channels, tensors["A"].shape[1])
    half = least_bytes(sizes, element_type) // 2
    source, target = (torch.zeros(half, dtype=torch.uint8, device="cuda") for _ in range(2))

    def run() -> None:
        target.copy_(source)

    return run


def candidates(tensors: dict[str, Any], element_type: str) -> dict[str, Run]:
    """Return the candidates to measure, with mamba-ssm if it is installed."""
    made = {FLOOR: prepare_floor, OURS: prepare_ours}
    if importlib.util.find_spec("mamba_ssm"):
        made[MAMBA_SSM] = prepare_mamba_ssm
    return {name: prepare(tensors, element_type) for name, prepare in made.items()}


def expected(tensors: dict[str, Any]) -> np.ndarray:
    """Scan in float64, all pieces of the sequence at once, in torch.

    One pass finds the state that each piece adds, the second starts from the states before it.
    """
    import torch
    from torch.nn import functional

    wide = {name: tensor.double() for name, tensor in tensors.items()}
    length = wide["u"].shape[1]
    piece = max(1, round(length**0.5))
    pieces = -(-length // piece)

    def cut(tensor: Any) -> Any:
        """Return (piece, pieces, width): a token of every piece in a row. Zeros do no steps."""
        padded = functional.pad(tensor[0], (0, 0, 0, pieces * piece - length))
        return padded.reshape(pieces, piece, -1).transpose(0, 1)

    steps = functional.softplus(wide["delta"] + wide["delta_bias"])
    step, added, b, c = (cut(t) for t in (steps, steps * wide["u"], wide["B"], wide["C"]))
    a = wide["A"]

    def advance(states: Any, token: int) -> Any:
        decay = torch.exp(step[token][:, :, None] * a)
        return states * decay + added[token][:, :, None] * b[token][:, None, :]

    states = torch.zeros(pieces, *a.shape, dtype=a.dtype, device=a.device)
    for token in range(piece):
        states = advance(states, token)
    decays = torch.exp(step.sum(0)[:, :, None] * a)
    starts = torch.zeros_like(states)
    for index in range(1, pieces):
        starts[index] = starts[index - 1] * decays[index - 1] + states[index - 1]
    y = torch.empty(piece, pieces, a.shape[0], dtype=a.dtype, device=a.device)
    for token in range(piece):
        starts = advance(starts, token)
        y[token] = (starts * c[token][:, None, :]).sum(2)
    whole = y.transpose(0, 1).reshape(-1, a.shape[0])[:length] + wide["D"] * wide["u"][0]
    result: np.ndarray = (whole * functional.silu(wide["z"][0]))[None].cpu().numpy()
    return result


def take_turns(
    runs: dict[str, Run], clock: Callable[[Run], float], rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds of every run of every candidate, without a first round."""
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            took = clock(run)
            if turn:
                milliseconds[name].append(took)
    return milliseconds


def device_clock() -> Callable[[Run], float]:
    """Time one run by events on the device, after other data has filled its cache."""
    import torch

    other = torch.zeros(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def clock(run: Run) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        other.add_(1)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    return clock


def summary(
    milliseconds: dict[str, list[float]], errors: dict[str, float], moved: int
) -> dict[str, dict[str, float]]:
    """Summarise medians, bandwidths, and their ratios to the floor."""
    floor = statistics.median(milliseconds[FLOOR])
    rows = {}
    for name, took in milliseconds.items():
        median = statistics.median(took)
        rows[name] = {
            "median_ms": median,
            "fastest_ms": min(took),
            "gigabytes_per_s": moved / median / 1e6,
            "of_copy_bandwidth": floor / median,
        }
        if name in errors:
            rows[name]["error"] = errors[name]
    return rows


def largest_error(found: Any, reference: np.ndarray) -> float:
    """Return the largest difference from the reference over its largest value; NaN is infinite."""
    error = float(np.abs(found.double().numpy() - reference).max() / np.abs(reference).max())
    return error if error == error else math.inf


def measure(sizes: Sizes, element_type: str, rounds: int) -> dict[str, Any]:
    """Measure all candidates on one size and type."""
    tensors = make_inputs(sizes, element_type, "cuda")
    runs = candidates(tensors, element_type)
    reference = expected(tensors)
    errors = {
        name: largest_error(run().cpu(), reference) for name, run in runs.items() if name != FLOOR
    }
    milliseconds = take_turns(runs, device_clock(), rounds)
    moved = least_bytes(sizes, element_type)
    return {
        "sizes": asdict(sizes),
        "type": element_type,
        "least_bytes": moved,
        "results": summary(milliseconds, errors, moved),
    }


def machine() -> dict[str, Any]:
    """Describe the device and the versions."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "system": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def table(document: dict[str, Any]) -> str:
    """Write the document as a Markdown table."""
    device = document["machine"]
    lines = [
        f"{device['device']}, {device['multiprocessors']} multiprocessors",
        "",
        "| size | type | | median ms | GB/s | of copy | error |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for name, case in document["cases"].items():
        size, element_type = name.rsplit(" ", 1)
        for candidate, row in case["results"].items():
            error = f"{row['error']:.1e}" if "error" in row else ""
            lines.append(
                f"| {size} | {element_type} | {candidate} | {row['median_ms']:.3f} "
                f"| {row['gigabytes_per_s']:.0f} | {row['of_copy_bandwidth']:.0%} | {error} |"
            )
    return "\n".join(lines)


def require_device() -> None:
    """Report missing requirements in place of a traceback."""
    try:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("PyTorch finds no GPU; install one with CUDA and check nvidia-smi")
        load_cuda_library()
    except (ImportError, BackendError) as error:
        raise SystemExit(str(error)) from None


def main() -> None:
    """Measure, print the table and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=parse_sizes, default=SIZES, help=", ".join(SIZES))
    parser.add_argument("--types", type=parse_types, default=list(ELEMENT_TYPES))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    require_device()
    cases = {
        f"{name} {element_type}": measure(sizes, element_type, options.rounds)
        for name, sizes in options.sizes.items()
        for element_type in options.types
    }
    document = {"machine": machine(), "cases": cases}
    print(table(document))
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
