"""Reading, classes and division of label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch


def save(numbers: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(numbers.astype(np.int16), affine), path)
    return path


def test_axes_point_up_forward_and_right(example: Path, tmp_path: Path) -> None:
    from classes import STRUCTURES
    from label_maps import classes_of, read_label_map

    numbers = np.zeros((4, 5, 6))  # left, down, forward, as the published maps are stored
    numbers[0, 1, 5] = 53
    numbers[3, 4, 0] = 507
    affine = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    found = read_label_map(save(numbers, affine, tmp_path / "head.nii.gz"))
    assert found.name == "head"
    assert found.structures.shape == (5, 6, 4)
    place = found.structures.nonzero().tolist()
    assert place == [[0, 0, 0], [3, 5, 3]]
    assert STRUCTURES[found.structures[3, 5, 3]].name == "hippocampus"
    assert classes_of(found.structures)[3, 5, 3] == 9
    assert found.brain.tolist() == [[3, 5, 3], [4, 6, 4]]


@pytest.mark.parametrize(
    ("number", "spacing_mm", "message"),
    [(99, 1, "99.*add these numbers"), (2, 2, "expected 1 mm")],
)
def test_other_maps_are_refused(
    number: int, spacing_mm: int, message: str, example: Path, tmp_path: Path
) -> None:
    from label_maps import read_label_map

    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    path = save(np.full((3, 3, 3), number), affine, tmp_path / "head.nii.gz")
    with pytest.raises(ValueError, match=message):
        read_label_map(path)


def test_every_number_has_one_structure_and_every_class_has_one(example: Path) -> None:
    from classes import AIR, CLASSES, STRUCTURES

    numbers = [number for structure in STRUCTURES for number in structure.numbers]
    assert len(numbers) == len(set(numbers))
    assert STRUCTURES[AIR].numbers == (0,)
    assert {structure.label for structure in STRUCTURES} == set(CLASSES.values())
    assert list(CLASSES.values()) == list(range(len(CLASSES)))


def test_the_published_maps_are_read(example: Path, data_dir: Path) -> None:
    from classes import CLASSES
    from label_maps import classes_of, read_label_map

    path = data_dir / "synthseg_labels/training_seg_19.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there; it is one of SynthSeg's label maps")
    classes = classes_of(read_label_map(path).structures)
    litres = torch.bincount(classes.flatten(), minlength=len(CLASSES)) / 1e6
    assert 0.35 < litres[2] < 0.65  # cortex
    assert 0.35 < litres[3] < 0.6  # white matter
    assert 0.005 < litres[9] < 0.015  # both hippocampi and amygdalae


def test_every_fifth_map_is_held_out(head: Any) -> None:
    from label_maps import LabelMap, divide

    maps = [LabelMap(f"{n:02d}", head.structures, head.brain) for n in reversed(range(1, 21))]
    training, held_out = divide(maps)
    assert [one.name for one in held_out] == ["01", "06", "11", "16"]
    assert len(training) == 16
