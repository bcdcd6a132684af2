"""Train SegMaFormer on synthetic scans of whole heads.

    python examples/brain/train_brain.py MAPS --out RUN --hours 4

MAPS holds the label maps ``training_seg_*.nii.gz`` of SynthSeg. RUN gets ``checkpoint_best.pth``
(by Dice of the held-out heads) and ``checkpoint_final.pth``, both for `sgmf export`; ``state.pt``,
from which the same command goes on after any kill; and ``log.jsonl``, a line for every validation.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from held_out import held_out_heads, mean_dice
from label_maps import divide, read_label_map
from synthesis import Head
from training_state import TrainingState

SAVE_EVERY = 25


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=4, help="limit of this run, by the clock")
    parser.add_argument("--steps", type=int, default=8000, help="length of the whole training")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--validate-every", type=int, default=250)
    parser.add_argument("--patience", type=int, default=8, help="validations without a better one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def validate(
    training: TrainingState, held_out: dict[str, list[Head]], losses: list[float], out: Path
) -> None:
    """Log the held-out Dice of the averaged weights, and keep them if they are the best."""
    dice = {kind: mean_dice(training.average.module, heads) for kind, heads in held_out.items()}
    mean = float(np.mean([scores["mean"] for scores in dice.values()]))
    if mean > training.best:
        training.best, training.best_step = mean, training.step
        training.export(out / "checkpoint_best.pth")
    training.export(out / "checkpoint_final.pth")
    row = {
        "step": training.step,
        "cpu_hours": training.cpu_seconds / 3600,
        "rate": training.learning_rate(),
        "loss": float(np.mean(losses)) if losses else None,
        "mean_dice": mean,
        "dice": dice,
    }
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def run(options: argparse.Namespace) -> None:
    """Train until the last step, the limit of time, or no more gain."""
    torch.set_num_threads(options.threads)
    paths = sorted(options.maps.glob("*.nii.gz"))
    maps, held_out_maps = divide([read_label_map(path) for path in paths])
    training = TrainingState(steps=options.steps, rate=options.rate, seed=options.seed)
    state = options.out / "state.pt"
    if state.exists():
        training.resume(state)
        print(f"goes on from step {training.step}", flush=True)
    held_out = held_out_heads(held_out_maps)
    end = time.monotonic() + 3600 * options.hours
    patience = options.patience * options.validate_every
    losses: list[float] = []
    while training.step < options.steps and time.monotonic() < end:
        if training.step - training.best_step >= patience:
            print(f"no gain since step {training.best_step}", flush=True)
            break
        began = time.process_time()
        losses.append(training.advance(maps))
        training.cpu_seconds += time.process_time() - began
        last = training.step == options.steps
        if training.step % options.validate_every == 0 or last:
            validate(training, held_out, losses, options.out)
            losses.clear()
        if training.step % SAVE_EVERY == 0 or last:
            training.save(state)
            line = f"step {training.step}, {training.cpu_seconds:.0f} s of CPU time, loss"
            print(line, *(f"{loss:.3f}" for loss in losses[-1:]), flush=True)
    training.save(state)


def main() -> None:
    """Train in the folder of the command line."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    run(options)


if __name__ == "__main__":
    main()
