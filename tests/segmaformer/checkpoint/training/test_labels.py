from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.training.labels import channel_names, output_of
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Label, Output, Region

BRATS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": (2, 3), "enhancing tumor": 3}


def test_channels_are_ordered_by_number() -> None:
    names = {str(number): f"c{number}" for number in reversed(range(11))}
    assert channel_names({"channel_names": names}) == tuple(f"c{n}" for n in range(11))


def test_older_name_of_channels() -> None:
    assert channel_names({"modality": {"0": "CT"}}) == ("CT",)


@pytest.mark.parametrize("names", [None, [], "CT", {}, {"1": "CT"}, {"0": "CT", "2": "T1"}])
def test_channels_that_do_not_count_up(names: Any) -> None:
    with pytest.raises(InputError, match="channel"):
        channel_names({"channel_names": names})


def test_exclusive_labels_in_order_of_their_values() -> None:
    output = output_of({"labels": {"b": 2, "background": 0, "a": 1, "ignore": 3}})
    assert output == Output((Label(0, "background"), Label(1, "a"), Label(2, "b")))
    assert output.channels == 3


def test_single_values_in_lists_are_exclusive_labels() -> None:
    assert output_of({"labels": {"background": [0], "a": [1]}}).regions == ()


def test_regions_in_order_of_the_file() -> None:
    output = output_of({"labels": BRATS, "regions_class_order": [1, 2, 3]})
    assert output.regions == (
        Region("whole tumor", (1, 2, 3), 1),
        Region("tumor core", (2, 3), 2),
        Region("enhancing tumor", (3,), 3),
    )
    assert output.channels == 3
    assert output.labels == (
        Label(0, "background"),
        Label(1, "rest of whole tumor"),
        Label(2, "rest of tumor core"),
        Label(3, "enhancing tumor"),
    )


def test_regions_drop_background_of_any_form_and_ignore() -> None:
    labels = {"nothing": [0, 0], **BRATS, "ignore": 4}
    output = output_of({"labels": labels, "regions_class_order": (1, 2, 3)})
    assert [region.name for region in output.regions] == list(BRATS)[1:]


def test_regions_painted_in_another_order() -> None:
    labels = {"inner": [3, 4], "outer": [1, 2]}
    output = output_of({"labels": labels, "regions_class_order": [7, 5]})
    assert output.labels == (Label(0, "background"), Label(5, "outer"), Label(7, "inner"))


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (None, "regions_class_order is missing"),
        ([1, 2], "has 2 entries.*expected 3"),
        ([1, 2, 2], "different positive labels"),
        ([0, 1, 2], "different positive labels"),
        ("123", "expected a list"),
        ([1, 2, 3.5], "whole number"),
    ],
)
def test_bad_class_order(order: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        output_of({"labels": BRATS, "regions_class_order": order})


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (None, "labels is None"),
        ({}, "labels are none"),
        ({"background": 0}, "labels are background 0"),
        ({"background": 0, "a": 2}, "a 2; expected 0"),
        ({"a": 1, "b": 2}, "a 1, b 2; expected 0"),
        ({"background": 0, "a": 1, "b": 1}, "each once"),
        ({"background": 0, "a": -1}, "expected labels from 0"),
        ({"background": 0, "a": "1"}, "whole number"),
        ({"background": 0, "a": True}, "whole number"),
        ({"background": 0, "a": []}, "expected labels from 0"),
        ({"background": 0, "a": 70000}, "expected labels from 0"),
    ],
)
def test_bad_labels(labels: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        output_of({"labels": labels})
