"""State of a training, its steps, and the files that outlive the process."""

from __future__ import annotations

from pathlib import Path

import torch
from augmentation import Chance, random_patch
from cases import Case
from scores import dice_and_cross_entropy
from torch.optim.swa_utils import AveragedModel
from training_plans import RECORD

from segmaformer.models import create_model
from segmaformer.models.cpu_layers import speed_up
from segmaformer.runtime.system.atomic import atomic_file

WARM_UP_STEPS = 200
AVERAGE_DECAY = 0.998
LARGEST_GRADIENT = 12.0


def averaged(
    average: torch.Tensor, current: torch.Tensor, count: torch.Tensor | int
) -> torch.Tensor:
    """Move an average of weights towards the current ones, faster at first."""
    steps = int(count)
    return torch.lerp(current, average, min(AVERAGE_DECAY, (1 + steps) / (10 + steps)))


class Training:
    """Network, average of its weights, optimiser and random numbers.

    Parameters
    ----------
    steps
        Number of steps over which the learning rate falls to zero.
    rate
        Largest learning rate.
    seed
        Seed of the weights, the order of cases and their augmentation.
    """

    def __init__(self, *, steps: int, rate: float, seed: int):
        torch.manual_seed(seed)
        self.network = speed_up(create_model("segmaformer", preset="acdc_fixed")).train()
        self.average = AveragedModel(self.network, avg_fn=averaged)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.chance = Chance(torch.Generator().manual_seed(seed))
        self.steps, self.rate = steps, rate
        self.step, self.seconds, self.best = 0, 0.0, 0.0

    def learning_rate(self) -> float:
        """Return the rate of the next step: a linear start, then a polynomial of power 0.9."""
        start = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        return self.rate * start * max(0.0, 1 - self.step / self.steps) ** 0.9

    def advance(self, cases: list[Case], batch: int) -> float:
        """Take one step on `batch` random patches; return its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        chosen = [cases[self.chance.index(len(cases))] for _ in range(batch)]
        patches = [random_patch(case.image, case.labels, self.chance) for case in chosen]
        images, labels = (torch.stack(part) for part in zip(*patches, strict=True))
        loss = dice_and_cross_entropy(self.network(images), labels)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write all that :meth:`resume` needs."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": self.chance.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
        }
        with atomic_file(path) as file:
            torch.save(state, file)

    def resume(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.chance.generator.set_state(state["random"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def export(self, path: Path) -> None:
        """Write the averaged weights as an nnU-Net v2 checkpoint, plans and dataset.json inside."""
        RECORD.save(self.average.module.state_dict(), path, epoch=self.step)
