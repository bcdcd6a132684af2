"""postprocessing.json of nnU-Net, and its place in a trained-model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from segmaformer.checkpoint.training.postprocessing import (
    find_postprocessing,
    read_postprocessing,
)
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import KeepLargest, Label, Output

OUTPUT = Output((Label(0, "background"), Label(1, "a"), Label(2, "b"), Label(3, "c")))
FUNCTION = "remove_all_but_largest_component_from_segmentation"


def document(*labels: Any, **more: Any) -> str:
    """Return the file as nnU-Net writes it, with Dice values that may be NaN."""
    return json.dumps(
        {
            "input_folder": {"mean": {"1": {"Dice": float("nan")}}},
            "postprocessing_fns": [FUNCTION] * len(labels),
            "postprocessing_kwargs": [{"labels_or_regions": each, **more} for each in labels],
        }
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), []),
        ((2,), [(2,)]),
        (([1, 2, 3], 3, 1), [(1, 2, 3), (3,), (1,)]),
        (([2, 3],), [(2, 3)]),
        (([[1, 2], [3], 1],), [(1, 2, 3)]),
    ],
)
def test_steps_are_read_in_their_order(tmp_path: Path, labels: Any, expected: Any) -> None:
    path = tmp_path / "postprocessing.json"
    path.write_text(document(*labels, background_label=0))
    assert read_postprocessing(path, OUTPUT) == tuple(map(KeepLargest, expected))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (document(4), "keeps the labels 4; the network has 1, 2, 3"),
        (document([0, 1]), "keeps the labels 0, 1; the network has 1, 2, 3"),
        (document([]), "keeps the labels none"),
        (document("1"), "'1'; expected a whole number"),
        (document(1, background_label=1), "background_label is 1; expected 0"),
        (document(1, connectivity=1), "has connectivity, which"),
        (document(1).replace(FUNCTION, "fill_holes"), "unknown function 'fill_holes'; known: rem"),
        (document(1).replace(f'"{FUNCTION}"', ""), "has 1 entries"),
        ("{}", "postprocessing_fns is None; expected a list"),
        ("[]", "expected a dictionary"),
        ("nothing", "is not JSON"),
    ],
)
def test_what_cannot_be_applied_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "postprocessing.json"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint.replace("[", r"\[")):
        read_postprocessing(path, OUTPUT)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "postprocessing.pkl"
    path.write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"can run code; give the postprocessing\.json that"):
        read_postprocessing(path, OUTPUT)


def write(folder: Path, name: str = "postprocessing.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(document(1))
    return folder / name


def test_that_of_the_folds_is_found(tmp_path: Path) -> None:
    assert find_postprocessing(tmp_path, ["0", "1"]) is None
    two = write(tmp_path / "crossval_results_folds_0_1")
    assert find_postprocessing(tmp_path, ["0", "1"]) == two
    assert find_postprocessing(tmp_path, ["0"]) == two
    five = write(tmp_path / "crossval_results_folds_0_1_2_3_4")
    assert find_postprocessing(tmp_path, ["0", "1", "2", "3", "4"]) == five
    with pytest.raises(InputError, match="give one"):
        find_postprocessing(tmp_path, ["3"])


def test_a_pickle_alone_is_named(tmp_path: Path) -> None:
    write(tmp_path / "crossval_results_folds_0", "postprocessing.pkl")
    with pytest.raises(InputError, match="is a pickle, which can run code, without its JSON"):
        find_postprocessing(tmp_path, ["0"])
    found = write(tmp_path)
    assert find_postprocessing(tmp_path, ["0"]) == found
