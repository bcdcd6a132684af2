"""State of a training, its steps, and the files that outlive the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from brain_plans import NETWORK, RECORD
from classes import BACKGROUND
from label_maps import LabelMap
from synthesis import random_patch, synthesize
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segmaformer.models import create_model
from segmaformer.models.cpu_layers import speed_up
from segmaformer.runtime.system.atomic import atomic_file

BATCH = 2
WARM_UP_STEPS = 100
AVERAGE_DECAY = 0.995
LARGEST_GRADIENT = 12.0


class TrainingState:
    """Network, average of its weights, optimiser and progress.

    Parameters
    ----------
    steps
        Number of steps over which the learning rate falls to zero.
    rate
        Largest learning rate.
    seed
        Seed of the weights and scans. The scan of a step depends on the seed and the step alone,
        so that a resumed training sees what an uninterrupted one sees.
    """

    def __init__(self, *, steps: int, rate: float, seed: int):
        torch.manual_seed(seed)
        self.network = speed_up(create_model("segmaformer", **NETWORK)).train()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.steps, self.rate, self.seed = steps, rate, seed
        self.step, self.cpu_seconds = 0, 0.0
        self.best, self.best_step = 0.0, 0

    def learning_rate(self) -> float:
        """Return the rate of the next step: a linear start, then a polynomial of power 0.9."""
        start = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        return self.rate * start * max(0.0, 1 - self.step / self.steps) ** 0.9

    def advance(self, maps: list[LabelMap]) -> float:
        """Take one step on patches of one new scan; return its loss."""
        random = np.random.default_rng([self.seed, self.step])
        head = synthesize(maps[random.integers(len(maps))], random)
        patches = [random_patch(head, random) for _ in range(BATCH)]
        images, labels = (torch.stack(part) for part in zip(*patches, strict=True))
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        loss = dice_and_cross_entropy(self.network(images), labels)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write all that :meth:`resume` needs; the file is whole at every moment."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            **{name: getattr(self, name) for name in PROGRESS},
        }
        with atomic_file(path) as file:
            torch.save(state, file)

    def resume(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises
        ------
        ValueError
            That training had another seed.
        """
        state = torch.load(path, weights_only=True)
        if state["seed"] != self.seed:
            raise ValueError(
                f"{path} was trained with seed {state['seed']}, not {self.seed}; "
                "give that seed or another folder"
            )
        for part in ("network", "average", "optimiser"):
            getattr(self, part).load_state_dict(state[part])
        for name in PROGRESS:
            setattr(self, name, state[name])

    def export(self, path: Path) -> None:
        """Write the averaged weights as an nnU-Net v2 checkpoint, plans and dataset.json inside."""
        RECORD.save(self.average.module.state_dict(), path, epoch=self.step)


PROGRESS = ("seed", "step", "cpu_seconds", "best", "best_step")


def dice_and_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Add cross-entropy and one minus the mean soft Dice of the classes that are there.

    Parameters
    ----------
    logits
        Shape (B, K, D, H, W).
    labels
        Shape (B, D, H, W), int64.
    """
    log_probability = logits.log_softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    axes = (0, 2, 3, 4)
    volume = truth.sum(axes)
    probability = log_probability.exp()
    dice = 2 * (probability * truth).sum(axes) / (probability.sum(axes) + volume).clamp(min=1)
    present = volume > 0
    present[BACKGROUND] = False
    return F.nll_loss(log_probability, labels) + 1 - dice[present].mean()
