from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.networks.nnunet_folders import TILE, write_model_folder

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import load_checkpoint, load_folds
from segmaformer.checkpoint.folds import is_model_folder
from segmaformer.runtime.errors import InputError

FOLDS = ("0", "1", "2")


def test_logits_are_the_mean_of_the_folds(tmp_path: Path) -> None:
    models = write_model_folder(tmp_path)
    checkpoint = load_folds(tmp_path, folds=FOLDS)
    volume = torch.randn(1, 1, *TILE)
    with torch.inference_mode():
        expected = torch.stack([model(volume) for model in models]).mean(0)
        torch.testing.assert_close(checkpoint.model(volume), expected)
    assert checkpoint.tiling.tile == TILE
    assert checkpoint.tiling.mirror_axes == (0, 1, 2)
    assert checkpoint.assumptions[0] == "Mean of the logits of folds 0, 1, 2."
    assert checkpoint.parameters == 3 * sum(p.numel() for p in models[0].parameters())


def test_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    write_model_folder(tmp_path)
    files = [f"fold_{fold}/checkpoint_final.pth" for fold in FOLDS]
    printed = subprocess.run(["sha256sum", *files], cwd=tmp_path, capture_output=True, check=True)
    assert load_folds(tmp_path, folds=FOLDS).sha256 == hashlib.sha256(printed.stdout).hexdigest()


def test_one_fold_is_that_checkpoint(tmp_path: Path) -> None:
    write_model_folder(tmp_path)
    one = load_folds(tmp_path, folds=["1"])
    file = tmp_path / "fold_1" / "checkpoint_final.pth"
    assert (one.path, one.sha256) == (file, load_checkpoint(file).sha256)


def test_fold_all(tmp_path: Path) -> None:
    write_model_folder(tmp_path, ["all"])
    assert load_folds(tmp_path, folds=["all"]).arch == "nnunet-plain"


def test_plans_of_the_folder_win(tmp_path: Path) -> None:
    write_model_folder(tmp_path)
    plans = json.loads((tmp_path / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["spacing"] = [2.0, 1.0, 1.0]
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    assert load_folds(tmp_path, folds=FOLDS).preprocessing.spacing == (2.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("folds", "error", "message"),
    [
        (("0", "4"), FileNotFoundError, "no fold_4/checkpoint_final.pth in .*; it has fold_0/"),
        ((), ValueError, "folds are none"),
        (("0", "0"), ValueError, "each once"),
        (("../x",), ValueError, "no fold '../x'"),
    ],
)
def test_folds_that_are_not_there(
    tmp_path: Path, folds: Any, error: type[Exception], message: str
) -> None:
    write_model_folder(tmp_path)
    with pytest.raises(error, match=message):
        load_folds(tmp_path, folds=folds)


def change(file: Path, key: str, value: Any) -> None:
    document = torch.load(file, weights_only=True)
    document[key] = value
    torch.save(document, file)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer_name", "nnUNetTrainerNoMirroring", "fold_0 and fold_2 differ in the trainer"),
        ("inference_allowed_mirroring_axes", (0,), "differ in tile or mirroring axes"),
    ],
)
def test_folds_of_two_trainings(tmp_path: Path, key: str, value: Any, message: str) -> None:
    write_model_folder(tmp_path)
    change(tmp_path / "fold_2" / "checkpoint_final.pth", key, value)
    with pytest.raises(InputError, match=message):
        load_folds(tmp_path, folds=FOLDS)


def test_folds_of_different_plans(tmp_path: Path) -> None:
    """Their networks and the plans of the folder are the same."""
    write_model_folder(tmp_path)
    file = tmp_path / "fold_2" / "checkpoint_final.pth"
    recorded = torch.load(file, weights_only=True)["init_args"]
    recorded["plans"]["configurations"]["3d_fullres"]["spacing"] = [2.0, 1.0, 1.0]
    change(file, "init_args", recorded)
    with pytest.raises(InputError, match="fold_0 and fold_2 differ in the plans that their files"):
        load_folds(tmp_path, folds=FOLDS)
    assert load_folds(tmp_path, folds=FOLDS[:2]).preprocessing.spacing == (1.0, 1.0, 1.0)


def test_folds_of_two_networks(tmp_path: Path) -> None:
    write_model_folder(tmp_path, ["0"])
    write_model_folder(tmp_path / "other", ["1"], name="nnunet-resenc")
    (tmp_path / "other" / "fold_1").rename(tmp_path / "fold_1")
    with pytest.raises(InputError, match="differ in the network"):
        load_folds(tmp_path, folds=["0", "1"])


def test_model_folders_are_told_by_their_folds(tmp_path: Path) -> None:
    assert not is_model_folder(tmp_path)
    assert not is_model_folder(tmp_path / "absent")
    write_model_folder(tmp_path, ["0"])
    assert is_model_folder(tmp_path)
