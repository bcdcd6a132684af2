"""Steps, resumption, validation and the checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segmaformer.checkpoint import load_checkpoint


@pytest.fixture
def small_patches(monkeypatch: pytest.MonkeyPatch, example: Path) -> None:
    """Let tests take steps on small patches."""
    import held_out
    import synthesis

    for module in (synthesis, held_out):
        monkeypatch.setattr(module, "PATCH", (32, 32, 32))


@pytest.mark.usefixtures("small_patches")
def test_a_resumed_training_goes_on_as_if_nothing_happened(head: Any, tmp_path: Path) -> None:
    from training_state import TrainingState

    through = TrainingState(steps=10, rate=1e-3, seed=0)
    through.advance([head])
    through.best, through.best_step = 0.5, 1
    through.save(tmp_path / "state.pt")
    expected = through.advance([head])
    resumed = TrainingState(steps=10, rate=1e-3, seed=0)
    resumed.resume(tmp_path / "state.pt")
    assert (resumed.step, resumed.best, resumed.best_step) == (1, 0.5, 1)
    assert resumed.advance([head]) == pytest.approx(expected, rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    with pytest.raises(ValueError, match="seed 0, not 7"):
        TrainingState(steps=10, rate=1e-3, seed=7).resume(tmp_path / "state.pt")


def test_its_checkpoint_is_read_with_the_plans_of_the_training(
    example: Path, tmp_path: Path
) -> None:
    from brain_plans import PATCH, RECORD
    from classes import CLASSES
    from training_state import TrainingState

    training = TrainingState(steps=10, rate=1e-3, seed=0)
    training.export(tmp_path / "checkpoint_final.pth")
    checkpoint = load_checkpoint(tmp_path / "checkpoint_final.pth")
    assert checkpoint.preprocessing == RECORD.preprocessing()
    assert checkpoint.tiling.tile == PATCH
    assert {label.name: label.value for label in checkpoint.output.labels} == CLASSES
    own = training.average.module.state_dict()
    assert all(
        torch.equal(value, own[name]) for name, value in checkpoint.model.state_dict().items()
    )


def test_the_loss_leaves_out_classes_that_are_absent(example: Path) -> None:
    from training_state import dice_and_cross_entropy

    labels = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    labels[0, :2] = 3
    logits = torch.full((1, 10, 4, 4, 4), -20.0).scatter(1, labels[:, None], 20.0)
    assert float(dice_and_cross_entropy(logits, labels)) == pytest.approx(0, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # this head lacks most classes
def test_held_out_scans_are_of_both_kinds_and_scored(head: Any) -> None:
    from held_out import KINDS, held_out_heads, mean_dice

    class Perfect(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.stack([-(image[:, 0] - value).abs() for value in range(10)], dim=1)

    heads = held_out_heads([head])
    assert tuple(heads) == KINDS
    scored = [type(one)(one.labels[None].float(), one.labels) for one in heads["T1"]]
    dice = mean_dice(Perfect(), scored)
    assert dice["cortex"] == dice["deep grey nuclei"] == 1


@pytest.mark.usefixtures("small_patches")
def test_a_training_stops_when_it_gains_no_more(
    head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_brain
    from label_maps import LabelMap

    (tmp_path / "maps").mkdir()
    for number in range(6):
        (tmp_path / f"maps/{number}.nii.gz").touch()
    monkeypatch.setattr(
        train_brain,
        "read_label_map",
        lambda path: LabelMap(path.name, head.structures, head.brain),
    )
    scores = iter((0.3, 0.3, 0.2, 0.2, 0.2, 0.2))
    monkeypatch.setattr(train_brain, "mean_dice", lambda *_: {"mean": next(scores)})
    train_brain.run(
        argparse.Namespace(
            maps=tmp_path / "maps",
            out=tmp_path,
            hours=1,
            steps=20,
            rate=1e-3,
            validate_every=1,
            patience=2,
            threads=1,
            seed=0,
        )
    )
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["mean_dice"] == 0.3
    assert torch.load(tmp_path / "state.pt", weights_only=True)["best_step"] == 1
    for name in ("best", "final"):
        assert (tmp_path / f"checkpoint_{name}.pth").is_file()
