from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.networks.nnunet_folders import write_cascade, write_model_folder

pytest.importorskip("torch")

from segmaformer.checkpoint import load_checkpoint, load_folds, with_previous_stage
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import PreviousStage, Resampling

ONE = {"folds": ["0"]}


def second_stage(folder: Path) -> Any:
    return load_folds(folder, folds=["0"])


def test_the_first_stage_is_found_beside_the_second(tmp_path: Path) -> None:
    _, second = write_cascade(tmp_path)
    checkpoint = with_previous_stage(second_stage(second), **ONE)
    assert checkpoint.first is not None
    assert checkpoint.first.preprocessing.spacing == (2.0, 2.0, 2.0)
    assert checkpoint.previous_stage == PreviousStage((1, 2), Resampling(order=1))
    assert checkpoint.masks == 2
    assert checkpoint.config["input_channels"] == 3
    assert checkpoint.preprocessing.channels == ("T1",)


def test_the_first_stage_of_a_single_file(tmp_path: Path) -> None:
    _, second = write_cascade(tmp_path)
    loaded = load_checkpoint(second / "fold_0" / "checkpoint_final.pth")
    assert with_previous_stage(loaded, **ONE).first is not None


def test_a_first_stage_elsewhere(tmp_path: Path) -> None:
    first, second = write_cascade(tmp_path)
    moved = first.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"no trained-model folder .*--previous-stage FOLDER"):
        with_previous_stage(second_stage(second), **ONE)
    assert with_previous_stage(second_stage(second), moved, **ONE).first is not None


def test_other_networks_stay_as_they_are(tmp_path: Path) -> None:
    write_model_folder(tmp_path / "own", ["0"])
    loaded = second_stage(tmp_path / "own")
    assert with_previous_stage(loaded) is loaded
    with pytest.raises(InputError, match="no second stage of a cascade"):
        with_previous_stage(loaded, tmp_path / "own")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"dataset_name": "Dataset002_Other"}, "data set Dataset002_Other; expected 3d_lowres"),
        ({"plans_name": "nnUNetResEncUNetMPlans"}, "of the plans nnUNetResEncUNetMPlans"),
    ],
)
def test_first_stages_of_other_plans(
    tmp_path: Path, changes: dict[str, str], complaint: str
) -> None:
    _, second = write_cascade(tmp_path, **changes)
    with pytest.raises(InputError, match=complaint):
        with_previous_stage(second_stage(second), **ONE)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        (
            "labels",
            {"background": 0, "left": 1, "right": 2},
            r"other labels: background, left, right\. Give the 3d_lowres that it was trained with",
        ),
        ("channel_names", {"0": "T2"}, "other channels: T2"),
    ],
)
def test_first_stages_of_another_data_set(
    tmp_path: Path, key: str, value: dict[str, Any], complaint: str
) -> None:
    first, second = write_cascade(tmp_path)
    dataset = json.loads((first / "dataset.json").read_text())
    (first / "dataset.json").write_text(json.dumps({**dataset, key: value}))
    with pytest.raises(InputError, match=complaint):
        with_previous_stage(second_stage(second), **ONE)


def test_a_cascade_is_no_first_stage(tmp_path: Path) -> None:
    _, second = write_cascade(tmp_path)
    with pytest.raises(InputError, match="it is 3d_cascade_fullres of the plans"):
        with_previous_stage(second_stage(second), second, **ONE)


def test_labels_of_a_cascade_need_their_names(tmp_path: Path) -> None:
    _, second = write_cascade(tmp_path)
    (second / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"no dataset\.json names them"):
        second_stage(second)
