from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.recognition import ARCHITECTURES
from segmaformer.models import create_model, model_config
from segmaformer.runtime.errors import InputError

SUPPORT = {row.name: row.support for row in ARCHITECTURES}
SMALL: dict[str, dict[str, Any]] = {
    "segformer3d": {
        "embed_dims": [8, 8, 10, 16],
        "depths": [1] * 4,
        "decoder_head_embedding_dim": 8,
    },
    "segmamba": {"feat_size": [4] * 4, "hidden_size": 8, "depths": [1] * 4, "d_state": 2},
    "segresmamba": {"feat_size": [8] * 4, "d_state": 2},
    "taming-segmamba": {
        "features_per_stage": [4, 4, 4],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage_encoder": [1] * 3,
        "n_conv_per_stage_decoder": [1] * 2,
    },
}

SMALL |= dict.fromkeys(
    ("taming-bisegmamba", "taming-multisegmamba", "taming-segmambaskip"), SMALL["taming-segmamba"]
)

ANISOTROPIC = {
    "patch_kernel_size": [[3, 7, 7], 3, 3, 3],
    "patch_stride": [[2, 4, 4], 2, 2, 2],
    "patch_padding": [[1, 3, 3], 1, 1, 1],
}


def runs(arch: str, config: dict[str, Any], tile: tuple[int, int, int]) -> bool:
    model = create_model(arch, **config).eval()
    channels = next(value for key, value in model.config.items() if key.startswith("in"))
    try:
        with torch.inference_mode():
            model(torch.zeros(1, channels, *tile))
    except (ValueError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(
    ("arch", "more", "tile", "nearest"),
    [
        ("segmamba", {}, (32, 32, 32), None),
        ("segmamba", {}, (32, 32, 40), "32,32,64"),
        ("segmamba", {}, (16, 16, 16), "32,32,32"),
        ("segmamba", {"nslices": None}, (16, 16, 16), "16,16,32"),
        ("segresmamba", {}, (32, 32, 48), None),
        ("segresmamba", {}, (32, 32, 32), "32,32,48"),
        ("segresmamba", {}, (33, 48, 48), "48,48,48"),
        ("segresmamba", {"use_tom": True}, (64, 64, 64), None),
        ("segresmamba", {"use_tom": True}, (64, 64, 48), "64,64,64"),
        ("taming-segmamba", {}, (4, 8, 8), None),
        ("taming-segmamba", {}, (2, 4, 4), "4,4,4"),
        ("taming-segmamba", {}, (3, 8, 8), "4,8,8"),
        ("taming-bisegmamba", {}, (2, 4, 4), "4,4,4"),
        ("taming-multisegmamba", {}, (2, 4, 4), "4,4,4"),
        ("taming-segmambaskip", {}, (2, 4, 6), "2,4,8"),
        ("segformer3d", {}, (16, 16, 32), None),
        ("segformer3d", ANISOTROPIC, (14, 16, 32), None),
        ("segformer3d", {}, (12, 16, 16), "16,16,16"),
        ("segformer3d", {}, (30, 32, 32), "32,32,32"),
    ],
)
def test_refused_exactly_where_the_network_fails(
    arch: str, more: dict[str, Any], tile: tuple[int, int, int], nearest: str | None
) -> None:
    config = model_config(arch, **SMALL[arch], **more)
    # SegFormer3D would compute something on extents that are no multiple of its stride.
    fails_by_itself = arch != "segformer3d" or tile[0] % 4 == 0
    if nearest is None:
        SUPPORT[arch].check_tile(config, tile)
        assert runs(arch, config, tile)
        return
    with pytest.raises(InputError, match=f"valid patch_size is {nearest}$"):
        SUPPORT[arch].check_tile(config, tile)
    assert not runs(arch, config, tile) or not fails_by_itself
    depth, height, width = (int(extent) for extent in nearest.split(","))
    assert runs(arch, config, (depth, height, width))


@pytest.mark.parametrize("arch", ["segmamba", "segresmamba", "segformer3d", "taming-segmamba"])
def test_published_tiles(arch: str) -> None:
    tile = (48, 192, 192) if arch.startswith("taming") else (128, 128, 128)
    SUPPORT[arch].check_tile(model_config(arch), tile)
