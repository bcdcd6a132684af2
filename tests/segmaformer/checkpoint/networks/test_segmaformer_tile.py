from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.networks.segmaformer_tile import check_segmaformer_tile
from segmaformer.models import create_model, model_config
from segmaformer.runtime.errors import InputError

NARROW = {
    "embed_dims": [2, 2, 2, 2],
    "num_heads": [1, 1, 1, 1],
    "depths": [1, 1, 1, 1],
    "mlp_ratios": [1, 1, 1, 1],
    "decoder_head_embedding_dim": 2,
}
BY_SCHEDULE = {
    "published": ["mamba", "hybrid", "hybrid", "attention"],
    "attention": ["attention"] * 4,
    "prereduce": ["mamba_prereduce", "hybrid_prereduce", "mamba", "hybrid_prereduce"],
}


def runs(config: dict[str, Any], tile: tuple[int, int, int]) -> bool:
    try:
        create_model("segmaformer", **config)(torch.zeros(1, config["in_channels"], *tile))
    except (ValueError, RuntimeError):
        return False
    return True


def accepted(config: dict[str, Any], tile: tuple[int, int, int]) -> bool:
    try:
        check_segmaformer_tile(config, tile)
    except InputError:
        return False
    return True


@settings(max_examples=40)
@given(
    preset=st.sampled_from(["brats", "bctv_fixed", "acdc_fixed", "bones"]),
    schedule=st.sampled_from(sorted(BY_SCHEDULE)),
    reduction=st.sampled_from([[1, 1, 1, 1], [4, 2, 1, 1], [2, 2, 2, 2]]),
    tile=st.tuples(*[st.sampled_from([1, 2, 8, 9, 16, 17, 32, 33])] * 3),
)
def test_accepts_exactly_what_the_network_runs_on(
    preset: str, schedule: str, reduction: list[int], tile: tuple[int, int, int]
) -> None:
    config = model_config(
        "segmaformer",
        preset=preset,
        **{**NARROW, "stage_block_types": BY_SCHEDULE[schedule], "sr_ratios": reduction},
    )
    assert accepted(config, tile) == runs(config, tile)


@pytest.mark.parametrize("preset", ["brats", "bctv_fixed", "acdc_fixed", "bones"])
def test_the_sizes_it_names_would_do(preset: str) -> None:
    config = model_config("segmaformer", preset=preset)
    with pytest.raises(InputError) as refusal:
        check_segmaformer_tile(config, (1, 1, 1))
    text = str(refusal.value)
    least, *longer = re.search(
        r"at least (\S+) that reaches (\d+) in depth, (\d+) in height or (\d+) in width", text
    ).groups()
    for axis, extent in enumerate(longer):
        tile = [int(voxels) for voxels in least.split("x")]
        tile[axis] = int(extent)
        check_segmaformer_tile(config, (tile[0], tile[1], tile[2]))
        tile[axis] -= 1
        with pytest.raises(InputError):
            check_segmaformer_tile(config, (tile[0], tile[1], tile[2]))


def test_names_the_grid() -> None:
    with pytest.raises(InputError, match=r"a tile of 32x32x32 voxels leaves stage 4 .* 1x1x1"):
        check_segmaformer_tile(model_config("segmaformer", preset="brats"), (32, 32, 32))
