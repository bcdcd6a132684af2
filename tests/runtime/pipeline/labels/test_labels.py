from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segmaformer.runtime.pipeline.labels import label_dtype, logits_to_labels
from segmaformer.runtime.spec import Label, Output, Region

SOFTMAX = Output((Label(0, "background"), Label(1, "a"), Label(2, "b")))
BRATS = Output(
    (Label(0, "background"), Label(1, "edema"), Label(2, "core"), Label(3, "enhancing")),
    (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3)),
)
LOGITS = hnp.arrays(np.float32, (3, 2, 3, 2), elements=st.integers(-20, 20).map(lambda n: n / 4))


@given(LOGITS)
@settings(max_examples=25)
def test_without_regions_the_largest_logit_wins(logits: np.ndarray) -> None:
    labels = logits_to_labels(logits, SOFTMAX)
    assert labels.shape == logits.shape[1:]
    assert labels.dtype == np.uint8
    for voxel in np.ndindex(labels.shape):
        values = [channel[voxel] for channel in logits]
        assert labels[voxel] == values.index(max(values))


def test_the_first_of_equal_logits_wins() -> None:
    logits = np.array([[0, 1, 2], [0, 1, 2], [0, 0, 2]], np.float32)[:, None, None]
    assert logits_to_labels(logits, SOFTMAX).tolist() == [[[0, 0, 0]]]


@given(LOGITS)
@settings(max_examples=25)
def test_regions_above_one_half_paint_later_over_earlier(logits: np.ndarray) -> None:
    labels = logits_to_labels(logits, BRATS)
    for voxel in np.ndindex(labels.shape):
        expected = 0
        for channel, region in zip(logits, BRATS.regions, strict=True):
            if 1 / (1 + np.exp(-float(channel[voxel]))) > 0.5:
                expected = region.value
        assert labels[voxel] == expected


def test_the_order_of_regions_decides_not_their_value() -> None:
    output = Output(BRATS.labels, tuple(reversed(BRATS.regions)))
    logits = np.ones((3, 1, 1, 1), np.float32)
    assert logits_to_labels(logits, output).item() == 1
    assert logits_to_labels(logits, BRATS).item() == 3


def test_a_region_needs_its_own_channel() -> None:
    with pytest.raises(ValueError, match="zip"):
        logits_to_labels(np.zeros((2, 1, 1, 1), np.float32), BRATS)


@pytest.mark.parametrize(
    ("largest", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16)]
)
def test_the_type_holds_every_value(largest: int, dtype: type) -> None:
    labels = (Label(0, "background"), Label(largest, "a"))
    output = Output(labels, (Region("a", (1,), largest),))
    assert label_dtype(output) is dtype
    labels_found = logits_to_labels(np.ones((1, 1, 1, 1), np.float32), output)
    assert (labels_found.item(), labels_found.dtype) == (largest, dtype)
    many = Output(tuple(Label(value, str(value)) for value in range(largest + 1)))
    assert label_dtype(many) is dtype
