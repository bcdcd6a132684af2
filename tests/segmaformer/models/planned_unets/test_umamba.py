from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models import create_model
from segmaformer.models.planned_unets.umamba import channel_tokens, stage_voxels, thinned
from segmaformer.models.planned_unets.umamba_blocks import ChannelLayer, Upsample, make_mixer

SMALL: dict[str, Any] = {
    "num_classes": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2, 1],
    "n_conv_per_stage_decoder": [2, 1],
    "d_state": 4,
}
TILE = [4, 8, 4]


def small(name: str, generation: int) -> Any:
    tile = {"input_size": TILE} if name == "umamba-enc" else {}
    return create_model(name, **SMALL, **tile, generation=generation)


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", ["umamba-bot", "umamba-enc"])
def test_learns(name: str, generation: int) -> None:
    model = small(name, generation)
    logits = model(torch.randn(1, 1, *TILE))
    assert logits.shape == (1, 3, *TILE)
    logits.square().mean().backward()
    unused = {key for key, p in model.named_parameters() if p.grad is None}
    # Only training with deep supervision reads the coarser level's classifier.
    assert unused == {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}


@pytest.mark.parametrize(
    ("stages", "encoder", "decoder"),
    [
        (6, [2, 2, 2, 1, 1, 1], [2, 2, 2, 1, 1]),
        (5, [2, 2, 2, 1, 1], [2, 2, 2, 1]),
        (4, [2, 2, 1, 1], [2, 2, 1]),
    ],
)
def test_thinning(stages: int, encoder: list[int], decoder: list[int]) -> None:
    assert thinned([2] * stages, [2] * (stages - 1)) == (encoder, decoder)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=9))
def test_thinning_twice_is_thinning_once(depths: list[int]) -> None:
    once = thinned(depths, depths[1:])
    assert thinned(*once) == once


def test_few_voxels_make_channels_the_tokens() -> None:
    config = {**SMALL, "input_size": TILE, "generation": 2}
    assert stage_voxels(TILE, SMALL["strides"]) == [128, 32, 4]
    assert channel_tokens(config) == [False, False, True]
    assert channel_tokens({**config, "features_per_stage": [4, 32, 8]}) == [False, True, True]
    assert channel_tokens({**config, "generation": 1}) == [False, False, False]


def test_channels_follow_one_another() -> None:
    torch.manual_seed(0)
    layer = ChannelLayer(8, make_mixer({"d_state": 4, "d_conv": 4, "expand": 2}, 8)).eval()
    volume = torch.randn(1, 5, 2, 2, 2)
    changed = volume.clone()
    changed[:, 3] += 1 + torch.arange(8.0).view(2, 2, 2)
    with torch.inference_mode():
        same = (layer(volume) == layer(changed)).flatten(2).all(2)[0]
    assert same.tolist() == [True, True, True, False, False]


def test_enlargement_and_convolution_commute() -> None:
    up = Upsample(3, 2, [1, 2, 3]).double()
    volume = torch.randn(1, 3, 2, 3, 2, dtype=torch.float64)
    enlarged = torch.nn.functional.interpolate(volume, scale_factor=[1.0, 2.0, 3.0])
    torch.testing.assert_close(up(volume), up.conv(enlarged))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generation": 3}, "expected 1 or 2"),
        ({"strides": [[1, 1, 1]]}, "UMambaBot has 3 stages"),
    ],
)
def test_configurations_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("umamba-bot", **{**SMALL, **change})
