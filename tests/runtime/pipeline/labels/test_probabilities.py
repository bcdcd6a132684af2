from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit, softmax
from support.native.line_kernels import linear_taps

from segmaformer.runtime.bindings.logit_lines import LogitLines
from segmaformer.runtime.pipeline.probabilities import (
    label_channel,
    resample_probabilities,
    to_probabilities,
)
from segmaformer.runtime.spec import Label, Output, Region

LABELS = Output((Label(0, "background"), Label(1, "anterior"), Label(2, "posterior")))
REGIONS = Output(
    (Label(0, "background"), Label(1, "rest"), Label(2, "core")),
    (Region("whole", (1, 2), 1), Region("core", (2,), 2)),
)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("target", [(9, 20, 14), (3, 4, 5), (6, 8, 7)])
def test_equals_probabilities_of_resampled_logits(
    exclusive: bool, target: tuple[int, int, int]
) -> None:
    shape = (6, 8, 7)
    logits = (3 * np.random.default_rng(0).standard_normal((4, *shape))).astype(np.float32)
    taps = [linear_taps(*lengths) for lengths in zip(shape, target, strict=True)]
    zoom = [new / old for new, old in zip(target, shape, strict=True)]
    full = np.stack(
        [
            ndimage.zoom(channel.astype(float), zoom, order=1, mode="nearest", grid_mode=True)
            for channel in logits
        ]
    )
    expected = (softmax(full, axis=0) if exclusive else expit(full))[[2, 0]]
    lines = np.ascontiguousarray(np.moveaxis(logits, 0, 2)).reshape(48, 4, 7)
    found = resample_probabilities(
        LogitLines(lines, np.arange(48).reshape(6, 8)), taps, [2, 0], exclusive=exclusive
    )
    # Float32 interpolation of logits up to 10 moves a probability by a few roundings.
    np.testing.assert_allclose(found, expected, atol=2e-6)
    same_grid = to_probabilities(full.astype(np.float32), [2, 0], exclusive=exclusive)
    np.testing.assert_allclose(same_grid, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("output", "label", "channel"),
    [(LABELS, "posterior", 2), (LABELS, "0", 0), (REGIONS, "core", 1), (REGIONS, "1", 0)],
)
def test_labels_go_by_name_or_value(output: Output, label: str, channel: int) -> None:
    assert label_channel(output, label) == channel


def test_a_name_wins_over_the_value_of_another_label() -> None:
    """Labels may be named by numbers of the data that they were taken from."""
    output = Output((Label(0, "background"), Label(1, "2"), Label(2, "1"), Label(3, "7")))
    assert [label_channel(output, label) for label in ("1", "2", "3")] == [2, 1, 3]


@pytest.mark.filterwarnings("error")
def test_certain_voxels_have_certain_probabilities() -> None:
    logits = np.array([[-1e4, 1e4], [3e38, -3e38]], np.float32)
    assert to_probabilities(logits, [0, 1], exclusive=False).tolist() == [[0, 1], [1, 0]]
    assert to_probabilities(logits, [1], exclusive=True).tolist() == [[1, 0]]


def test_an_unknown_label_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no label 'tail'; it has background, anterior"):
        label_channel(LABELS, "tail")
