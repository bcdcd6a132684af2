"""Gradient of the scan: the op library against PyTorch, and a training step of SegMaFormer.

    python benchmarks/scan_gradient.py --out scan_gradient.json

Candidates take turns, see turns.py. Each runs the scan forwards and backwards, and its result are
all gradients. "A loop" is the definition, differentiated by PyTorch; "chunks" the gradient as
tensor operations over about sqrt(L) steps. A training step is forward, backward and AdamW on
2 x 1 x 16 x 160 x 160, the ACDC_fixed configuration without deep supervision; its result is the
gradient of the first weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns import Run, available_threads, report, table, take_turns

LENGTH, CHANNELS, STATES = 4096, 64, 16
TRAINING_SHAPE = (2, 1, 16, 160, 160)


def _leaves() -> list[Any]:
    import torch

    torch.manual_seed(0)
    sequence, projection = (1, LENGTH, CHANNELS), (1, LENGTH, STATES)
    u, delta, z = (torch.randn(sequence) for _ in range(3))
    a = -torch.rand(CHANNELS, STATES) * 4
    b, c = (torch.randn(projection) for _ in range(2))
    skip, bias = (torch.randn(CHANNELS) for _ in range(2))
    return [leaf.requires_grad_() for leaf in (u, delta, a, b, c, skip, z, bias)]


def _gradients(scan: Callable[..., Any], threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    leaves = _leaves()

    def run() -> np.ndarray:
        y = scan(*leaves, delta_softplus=True)
        found = torch.autograd.grad(y.square().sum(), leaves)
        return np.concatenate([gradient.numpy().ravel() for gradient in found])

    return run


def _without_the_library() -> None:
    """Let the operator's gradient be that of tensor operations."""
    from segmaformer.ops import library

    def by_torch(*arguments: Any) -> list[Any]:
        gradients = library._gradients_by_torch(*arguments)  # noqa: SLF001
        return [gradient for gradient in gradients if gradient is not None]

    vars(library)["_gradients_on_cpu"] = by_torch


def loop() -> Run:
    from segmaformer.ops.reference import selective_scan_reference

    return _gradients(selective_scan_reference, available_threads())


def chunks() -> Run:
    from segmaformer.ops import selective_scan

    _without_the_library()
    return _gradients(selective_scan, available_threads())


def native(threads: int) -> Run:
    from segmaformer.ops import selective_scan

    return _gradients(selective_scan, threads)


def training_step(*, library: bool) -> Run:
    import torch

    from segmaformer.models import create_model

    if not library:
        _without_the_library()
    torch.set_num_threads(available_threads())
    torch.manual_seed(0)
    network = create_model("segmaformer", preset="acdc_fixed").train()
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.0)  # each turn takes the same step
    tile = torch.randn(TRAINING_SHAPE)

    def run() -> np.ndarray:
        optimizer.zero_grad()
        network(tile).square().mean().backward()
        optimizer.step()
        assert parameters[0].grad is not None
        return parameters[0].grad.numpy().copy()

    return run


def step_with_chunks() -> Run:
    return training_step(library=False)


def step_with_library() -> Run:
    return training_step(library=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scans: dict[str, tuple[Callable[..., Run], tuple[Any, ...]]] = {
        "PyTorch, a loop": (loop, ()),
        "PyTorch, chunks": (chunks, ()),
        "op library, one thread": (native, (1,)),
        "op library": (native, (available_threads(),)),
    }
    steps: dict[str, tuple[Callable[..., Run], tuple[Any, ...]]] = {
        "training step, gradient by PyTorch": (step_with_chunks, ()),
        "training step, gradient by the op library": (step_with_library, ()),
    }
    document = {
        "gradient": report(take_turns(scans, options.rounds), "PyTorch, chunks"),
        "training": report(take_turns(steps, options.rounds), next(iter(steps))),
    }
    for part in document.values():
        print(table(part), end="\n\n")
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
