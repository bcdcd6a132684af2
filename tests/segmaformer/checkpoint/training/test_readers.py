from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from segmaformer.checkpoint.training.readers import TrainingReader, training_reader
from segmaformer.runtime.errors import InputError

Document = dict[str, Any]


def plans(reader: str | None = None) -> Document:
    return {} if reader is None else {"image_reader_writer": reader}


@pytest.mark.parametrize("overwrite", [None, "None", "SimpleITKIO"])
def test_what_the_plans_name_is_not_assumed(overwrite: str | None) -> None:
    dataset = {"overwrite_image_reader_writer": overwrite, "file_ending": ".nii"}
    assert training_reader(plans("SimpleITKIO"), dataset) == TrainingReader("simpleitk", None)


def test_plans_win_over_a_dataset_that_names_another() -> None:
    dataset = {"overwrite_image_reader_writer": "NibabelIO"}
    found = training_reader(plans("SimpleITKIO"), dataset)
    assert found.rule == "simpleitk"
    assert found.assumption is not None
    assert "although dataset.json says NibabelIO" in found.assumption


def test_a_dataset_names_it_where_plans_do_not() -> None:
    dataset = {"overwrite_image_reader_writer": "NibabelIOWithReorient", "file_ending": ".nii.gz"}
    found = training_reader(plans(), dataset)
    assert (found.rule, found.orientation) == ("nibabel_reoriented", "RAS")
    assert found.assumption is not None
    assert "as dataset.json says" in found.assumption


@pytest.mark.parametrize(
    ("dataset", "rule", "said"),
    [
        (None, "simpleitk", "SimpleITKIO, nnU-Net's own choice for .nii.gz"),
        ({}, "simpleitk", "SimpleITKIO, nnU-Net's own choice for .nii.gz"),
        ({"file_ending": ".nii.gz"}, "simpleitk", "SimpleITKIO"),
        ({"file_ending": ".NRRD"}, "simpleitk", "SimpleITKIO, nnU-Net's own choice for .nrrd"),
        ({"file_ending": ".mha"}, "simpleitk", "SimpleITKIO"),
        ({"file_ending": ".nii"}, "nibabel", "NibabelIO, nnU-Net's own choice for .nii,"),
    ],
)
def test_else_the_choice_is_that_of_nnunet(dataset: Document | None, rule: str, said: str) -> None:
    found = training_reader(plans(), dataset)
    assert (found.rule, found.orientation) == (rule, None)
    assert found.assumption is not None
    assert said in found.assumption


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        ({"file_ending": ".tiff"}, "'Tiff3DIO', which takes TIFF, whose spacing"),
        ({"file_ending": ".png"}, "'NaturalImage2DIO', which takes flat images"),
        ({"file_ending": ".dcm"}, "the file_ending '.dcm'; expected one of .nii.gz"),
        (
            {"overwrite_image_reader_writer": "MyIO"},
            "dataset.json: .* 'MyIO', whose rules",
        ),
    ],
)
def test_readers_that_cannot_be_honoured(dataset: Document, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        training_reader(plans(), dataset)
