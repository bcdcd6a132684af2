from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import create_model, list_models, list_presets, model_config
from segmaformer.models.pyramids.segmaformer_blocks import BLOCK_TYPES

SCHEDULES = {"M": "mamba", "H": "hybrid", "A": "attention"}

# Parameters of the published configurations for each schedule of block types.
COUNTS = {
    ("brats", "MHHA"): 1_913_025,
    ("brats", "HHHA"): 1_922_961,
    ("brats", "MMMA"): 1_852_401,
    ("brats", "AAAA"): 2_038_629,
    ("bctv_fixed", "MHHA"): 1_831_552,
    ("bctv_fixed", "HHHA"): 1_841_488,
    ("bctv_fixed", "MMMA"): 1_770_928,
    ("bctv_fixed", "AAAA"): 1_761_160,
    ("bctv", "MHHA"): 1_838_608,
    ("bctv", "HHHA"): 1_848_544,
    ("bctv", "MMMA"): 1_777_984,
    ("bctv", "AAAA"): 2_004_412,
    ("acdc_fixed", "MHHA"): 1_822_886,
    ("acdc_fixed", "HHHA"): 1_832_822,
    ("acdc_fixed", "MMMA"): 1_762_262,
    ("acdc_fixed", "AAAA"): 1_948_490,
    ("acdc", "MHHA"): 1_876_238,
    ("acdc", "HHHA"): 1_886_174,
    ("acdc", "MMMA"): 1_815_614,
    ("acdc", "AAAA"): 1_765_646,
    ("bones", "HHHA"): 2_525_975,
}

# Smallest inputs that leave every stage more than one voxel.
TILES = {
    "acdc": (32, 32, 64),
    "acdc_fixed": (4, 32, 64),
    "acdc_z8hw32": (8, 32, 64),
    "bctv": (32, 32, 64),
    "bctv_fixed": (16, 32, 64),
    "bones": (16, 16, 32),
    "brats": (32, 32, 64),
}

SMALL: dict[str, Any] = {
    "embed_dims": [6, 12, 8, 16],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "mlp_ratios": [2, 2, 2, 2],
    "patch_kernel_size": [3, 3, 3, 3],
    "patch_stride": [2, 2, 2, 2],
    "patch_padding": [1, 1, 1, 1],
    "decoder_head_embedding_dim": 8,
}


def block_types(schedule: str) -> list[str]:
    return [SCHEDULES[letter] for letter in schedule]


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("preset", "schedule"), COUNTS)
def test_parameters_of_published_configurations(preset: str, schedule: str) -> None:
    with torch.device("meta"):
        model = create_model("segmaformer", preset=preset, stage_block_types=block_types(schedule))
    assert count(model) == COUNTS[preset, schedule]


def test_presets_are_the_main_schedule() -> None:
    for preset in list_presets("segmaformer"):
        config = model_config("segmaformer", preset=preset)
        assert config["stage_block_types"] == block_types("MHHA")


@pytest.mark.parametrize("preset", TILES)
def test_every_preset_runs(preset: str) -> None:
    assert set(TILES) == set(list_presets("segmaformer"))
    config = model_config("segmaformer", preset=preset)
    model = create_model("segmaformer", preset=preset).eval()
    with torch.inference_mode():
        y = model(torch.randn(1, config["in_channels"], *TILES[preset]))
    assert y.shape == (1, config["num_classes"], *TILES[preset])
    assert bool(y.isfinite().all())


@pytest.mark.parametrize("use_gate", [True, False], ids=["gate", "no gate"])
@pytest.mark.parametrize("use_rope", [True, False], ids=["rope", "no rope"])
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_every_block_type_learns(kind: str, use_rope: bool, use_gate: bool) -> None:
    model = create_model(
        "segmaformer",
        **SMALL,
        stage_block_types=[kind] * 4,
        sr_ratios=[4, 2, 1, 1],
        use_rope=use_rope,
        use_gate=use_gate,
    )
    y = model(torch.randn(2, 1, 32, 16, 24))
    assert y.shape == (2, 2, 32, 16, 24)
    y.square().mean().backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A linear or convolution bias right before an instance norm has no effect.
    assert not [name for name in unused if not name.endswith("dwconv.dwconv.bias")]


@pytest.mark.parametrize("schedule", ["".join(s) for s in itertools.product("MHA", repeat=2)])
def test_mixed_schedules(schedule: str) -> None:
    types = block_types(schedule * 2)
    model = create_model("segmaformer", **SMALL, stage_block_types=types).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 1, 16, 16, 32)).shape == (1, 2, 16, 16, 32)


def keys_of(**config: Any) -> set[str]:
    with torch.device("meta"):
        return set(create_model("segmaformer", **SMALL, **config).state_dict())


def test_keys_follow_the_configuration() -> None:
    hybrid = {"stage_block_types": ["hybrid"] * 4}
    gate = {f"encoder.stage{s}.0.gate.0.{p}" for s in range(1, 5) for p in ("weight", "bias")}
    assert keys_of(**hybrid) - keys_of(**hybrid, use_gate=False) == gate
    assert keys_of(**hybrid) == keys_of(**hybrid, use_rope=False)
    assert not any(".mamba." in key for key in keys_of(stage_block_types=["conv"] * 4))
    attention = {"stage_block_types": ["attention"] * 4}
    reduced = keys_of(**attention, sr_ratios=[2, 1, 1, 1]) - keys_of(**attention)
    assert reduced == {
        f"encoder.stage1.0.attn.{name}"
        for name in ("sr.weight", "sr.bias", "sr_norm.weight", "sr_norm.bias")
    }
    prereduced = {"stage_block_types": ["mamba_prereduce"] * 4}
    assert keys_of(**prereduced) == keys_of(stage_block_types=["mamba"] * 4)
    assert "encoder.stage1.0.prereduce.weight" in keys_of(**prereduced, sr_ratios=[2, 1, 1, 1])


def test_rotary_positions_change_the_output() -> None:
    torch.manual_seed(0)
    model = create_model("segmaformer", **SMALL).eval()
    plain = create_model("segmaformer", **SMALL, use_rope=False).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(1, 1, 16, 16, 32)
    with torch.inference_mode():
        assert not torch.allclose(model(x), plain(x))


def test_batch_entries_do_not_mix() -> None:
    model = create_model("segmaformer", **SMALL).eval()
    x = torch.randn(2, 1, 16, 16, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(x)[1:], model(x[1:]))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 64, 64, 64), r"\(1, 3, 64, 64, 64\); expected \(B, 1, D, H, W\)"),
        ((1, 64, 64, 64), r"expected \(B, 1, D, H, W\)"),
        ((1, 1, 16, 16, 16), "stage 4 is left with one voxel"),
        ((1, 1, 2, 2, 2), "stage 1 is left with one voxel"),
    ],
)
def test_inputs_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    model = create_model("segmaformer", **SMALL)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dims": [36, 66, 96]}, "embed_dims has 3 entries; SegMaFormer has 4 stages"),
        (
            {"stage_block_types": ["mamba", "ham", "conv", "jam"]},
            "unknown stage_block_types ham, jam",
        ),
        ({"num_heads": [1, 2, 4, 5]}, "192 channels cannot be divided over 5 attention heads"),
        ({"colour": 1, "d_stat": 2}, "segmaformer has no configuration key colour, d_stat; it has"),
        ({"preset": "spleen"}, "segmaformer has no preset 'spleen'; it has acdc"),
    ],
)
def test_configurations_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("segmaformer", **arguments)


@pytest.mark.parametrize("function", [create_model, model_config, list_presets])
def test_unknown_network(function: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown network 'unet'; known: .*segmaformer"):
        function("unet")


def test_names() -> None:
    assert "segmaformer" in list_models()
    assert list_presets("segmaformer") == sorted(TILES)


def test_configuration_is_complete_and_independent() -> None:
    config = model_config("segmaformer", preset="bones", num_classes=5)
    assert config["num_classes"] == 5
    assert config["depths"] == [4, 3, 2, 1]
    model = create_model("segmaformer", **config)
    assert model.config == config
    config["depths"].clear()
    assert model_config("segmaformer", preset="bones")["depths"] == [4, 3, 2, 1]
