"""Train SegMaFormer (ACDC_fixed) on the scans that prepare.py prepared.

    python examples/acdc/train.py DATA --out RUN --hours 4

RUN gets ``checkpoint_best.pth`` (by Dice of the held-out patients) and ``checkpoint_final.pth``,
both for `sgmf export`; ``state.pt``, from which the same command goes on after any kill; and
``log.jsonl``, a line for every validation.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from cases import Case, divide, read_case
from scores import mean_dice
from training import Training

SAVE_EVERY = 50


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=4, help="limit of this run, by the clock")
    parser.add_argument("--steps", type=int, default=12000, help="length of the whole training")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--validate-every", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def validate(training: Training, held_out: list[Case], losses: list[float], out: Path) -> None:
    """Log the held-out Dice of the averaged weights, and keep them if they are the best."""
    dice = mean_dice(training.average.module, held_out)
    if dice["mean"] > training.best:
        training.best = dice["mean"]
        training.export(out / "checkpoint_best.pth")
    training.export(out / "checkpoint_final.pth")
    row = {
        "step": training.step,
        "hours": training.seconds / 3600,
        "rate": training.learning_rate(),
        "loss": float(np.mean(losses)),
        "dice": dice,
    }
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def run(options: argparse.Namespace) -> None:
    """Train until the last step or the limit of time."""
    torch.set_num_threads(options.threads)
    paths = sorted((options.data / "prepared").glob("*.npz"))
    cases, held_out = divide([read_case(path) for path in paths])
    training = Training(steps=options.steps, rate=options.rate, seed=options.seed)
    state = options.out / "state.pt"
    if state.exists():
        training.resume(state)
        print(f"goes on from step {training.step}", flush=True)
    start, losses = time.monotonic(), []
    while training.step < options.steps and time.monotonic() - start < 3600 * options.hours:
        began = time.monotonic()
        losses.append(training.advance(cases, options.batch))
        training.seconds += time.monotonic() - began
        last = training.step == options.steps
        if training.step % options.validate_every == 0 or last:
            validate(training, held_out, losses, options.out)
            losses.clear()
        if training.step % SAVE_EVERY == 0 or last:
            training.save(state)
            print(f"step {training.step}, {training.seconds:.0f} s", *losses[-1:], flush=True)
    training.save(state)


def main() -> None:
    """Train in the folder of the command line."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    run(options)


if __name__ == "__main__":
    main()
