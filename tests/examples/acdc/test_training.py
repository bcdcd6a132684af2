"""One step, resumption and the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segmaformer.checkpoint import load_checkpoint


def cases() -> list[Any]:
    from cases import Case

    torch.manual_seed(0)
    labels = torch.zeros(6, 150, 150, dtype=torch.uint8)
    labels[1:5, 40:80, 40:60], labels[1:5, 40:80, 60:70], labels[1:5, 40:80, 70:100] = 1, 2, 3
    image = labels[None] - 1.0 + 0.1 * torch.randn(1, 6, 150, 150)
    return [Case(f"patient{number:03d}_frame01", image, labels) for number in (1, 2)]


def test_a_resumed_training_goes_on_as_if_nothing_happened(tmp_path: Path) -> None:
    from training import Training

    through = Training(steps=10, rate=1e-3, seed=0)
    through.advance(cases(), 1)
    through.save(tmp_path / "state.pt")
    expected = through.advance(cases(), 1)
    resumed = Training(steps=10, rate=1e-3, seed=7)
    resumed.resume(tmp_path / "state.pt")
    assert resumed.step == 1
    assert resumed.advance(cases(), 1) == pytest.approx(expected, rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_its_checkpoint_is_read_with_the_plans_of_the_training(tmp_path: Path) -> None:
    from training import Training
    from training_plans import PATCH, RECORD

    training = Training(steps=10, rate=1e-3, seed=0)
    training.export(tmp_path / "checkpoint_final.pth")
    checkpoint = load_checkpoint(tmp_path / "checkpoint_final.pth")
    assert checkpoint.preprocessing == RECORD.preprocessing()
    assert checkpoint.tiling.tile == PATCH
    assert [label.name for label in checkpoint.output.labels] == ["background", "RV", "Myo", "LV"]
    own = training.average.module.state_dict()
    assert all(
        torch.equal(value, own[name]) for name, value in checkpoint.model.state_dict().items()
    )


def test_patients_are_held_out_with_both_phases() -> None:
    from cases import Case, divide

    empty = torch.zeros(1)
    names = [f"patient{n:03d}_frame{f:02d}" for n in range(1, 11) for f in (1, 12)]
    training, held_out = divide([Case(name, empty, empty) for name in names])
    assert {case.patient for case in held_out} == {"patient001", "patient006"}
    assert len(held_out) == 4
    assert len(training) == 16


def test_whole_cases_are_scored() -> None:
    from scores import mean_dice

    class Perfect(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.stack([-(image[:, 0] + 1 - value).abs() for value in range(4)], dim=1)

    dice = mean_dice(Perfect(), cases())
    assert dice["mean"] > 0.99
    assert set(dice) == {"RV", "Myo", "LV", "mean"}
