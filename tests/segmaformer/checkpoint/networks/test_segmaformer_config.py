from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks.published import SEGMAFORMER_CASES, published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.networks.segmaformer_config import _mlp_ratio, segmaformer_config
from segmaformer.models import create_model, list_presets, model_config
from segmaformer.models.pyramids.segmaformer_blocks import BLOCK_TYPES
from segmaformer.runtime.errors import InputError

Shapes = dict[str, tuple[int, ...]]


def shapes_of(**config: Any) -> Shapes:
    with torch.device("meta"):
        model = create_model("segmaformer", **config)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def without_inert_entries(config: dict[str, Any]) -> dict[str, Any]:
    """Drop entries without effect in a stage: states of attention, heads and reductions."""
    config = dict(config)
    kinds = config["stage_block_types"]
    for key in ("d_state", "d_conv", "expand"):
        config[key] = [
            value if "mamba" in kind or "hybrid" in kind else None
            for value, kind in zip(config[key], kinds, strict=True)
        ]
    for key, acting in (("num_heads", ("attention",)), ("sr_ratios", ("attention", "prereduce"))):
        config[key] = [
            value if kind.endswith(acting) else None
            for value, kind in zip(config[key], kinds, strict=True)
        ]
    return config


def schedule_of(letters: str) -> list[str]:
    names = {"M": "mamba", "H": "hybrid", "C": "conv", "A": "attention"}
    return [names[letter] for letter in letters]


@pytest.mark.parametrize("schedule", ["MHHA", "HHHA", "MMMA", "AAAA", "CCCC", "MMMM"])
@pytest.mark.parametrize("preset", list_presets("segmaformer"))
def test_published_configurations_are_recovered(preset: str, schedule: str) -> None:
    kinds = schedule_of(schedule)
    expected = model_config("segmaformer", preset=preset, stage_block_types=kinds)
    inferred, _ = segmaformer_config(shapes_of(**expected))
    assert without_inert_entries(inferred) == without_inert_entries(expected)
    assert shapes_of(**inferred) == shapes_of(**expected)


@pytest.mark.parametrize("name", SEGMAFORMER_CASES)
def test_golden_configurations_are_recovered(golden_dir: Path, name: str) -> None:
    case = published_case(golden_dir, name)
    shapes, config = case.shapes, case.config
    inferred, _ = segmaformer_config(shapes)
    assert shapes_of(**inferred) == shapes_of(**config) == shapes
    for key in ("patch_stride", "patch_padding", "patch_kernel_size"):
        assert [np.broadcast_to(v, 3).tolist() for v in inferred[key]] == [
            np.broadcast_to(v, 3).tolist() for v in config[key]
        ]
    assert inferred["num_heads"] == config["num_heads"]


@pytest.mark.parametrize("kind", BLOCK_TYPES)
@pytest.mark.parametrize("ratio", [1, 2])
def test_block_types_and_reductions(tiny_config: dict[str, Any], kind: str, ratio: int) -> None:
    tiny_config |= {"stage_block_types": [kind] * 4, "sr_ratios": [ratio] * 4}
    inferred, _ = segmaformer_config(shapes_of(**tiny_config))
    reduces = ratio > 1 and (kind == "attention" or kind.endswith("prereduce"))
    seen = kind if reduces else kind.removesuffix("_prereduce")
    assert inferred["stage_block_types"] == [seen] * 4
    assert inferred["sr_ratios"] == [ratio if reduces else 1] * 4
    assert shapes_of(**inferred) == shapes_of(**tiny_config)


@pytest.mark.parametrize("use_gate", [True, False])
def test_gate(tiny_config: dict[str, Any], use_gate: bool) -> None:
    inferred, _ = segmaformer_config(shapes_of(**tiny_config, use_gate=use_gate))
    assert inferred["use_gate"] is use_gate


@settings(max_examples=200)
@given(channels=st.integers(1, 600), hidden=st.integers(1, 5000))
def test_mlp_ratio_gives_back_the_width(channels: int, hidden: int) -> None:
    assert int(channels * _mlp_ratio(hidden, channels)) == hidden


@pytest.mark.parametrize(
    ("widths", "heads", "reason"),
    [
        ([36, 66, 96, 192], [1, 2, 4, 6], "published for embed_dims"),
        ([48, 66, 96, 192], [2, 2, 4, 6], "published for embed_dims"),
        ([32, 64, 160, 256], [1, 2, 5, 8], "published for embed_dims"),
        ([12, 12, 18, 60], [1, 2, 4, 6], "the published default"),
    ],
)
def test_heads_are_stated(widths: list[int], heads: list[int], reason: str) -> None:
    inferred, assumptions = segmaformer_config(shapes_of(embed_dims=widths, num_heads=heads))
    assert inferred["num_heads"] == heads
    (sentence,) = (text for text in assumptions if "num_heads" in text)
    assert f"{heads[3]} in stage 4" in sentence
    assert reason in sentence


def test_heads_that_cannot_be_the_published_ones_are_asked_for() -> None:
    with pytest.raises(InputError, match="6 do not divide its 160 channels"):
        segmaformer_config(shapes_of(embed_dims=[32, 64, 96, 160], num_heads=[1, 2, 4, 5]))


def test_heads_are_not_mentioned_without_attention() -> None:
    _, assumptions = segmaformer_config(shapes_of(stage_block_types=schedule_of("MMMM")))
    assert not any("num_heads" in text for text in assumptions)


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        (None, True),
        ("SegMaFormerTrainer_BRATS_Stage1Mamba_Stage23Hybrid_Stage4Attention", True),
        ("SegMaFormerTrainer_BRATS_Stage1Mamba_RoPEOff", False),
        ("SegMaFormerTrainer_BRATS_SegMaFormer", False),
        ("SegMaFormerTrainer_BRATS_SegMaFormer_Fixed", True),
    ],
)
def test_rope_follows_the_trainer(trainer: str | None, expected: bool) -> None:
    inferred, assumptions = segmaformer_config(shapes_of(), trainer=trainer)
    assert inferred["use_rope"] is expected
    (sentence,) = (text for text in assumptions if "use_rope" in text)
    assert (trainer or "no trainer") in sentence
    assert any("rope_theta" in text for text in assumptions) is expected


def test_given_values_win_and_are_no_assumptions() -> None:
    known = {
        "num_heads": [3, 3, 3, 3],
        "use_rope": False,
        "patch_stride": [2, 2, 2, 2],
        "patch_padding": [0, 0, 0, 0],
    }
    inferred, assumptions = segmaformer_config(shapes_of(), trainer="T", given=known)
    assert {key: inferred[key] for key in known} == known
    assert assumptions == ()


def test_unknown_kernel_needs_stride_and_padding() -> None:
    shapes = shapes_of(patch_kernel_size=[5, 3, 3, 3])
    with pytest.raises(InputError, match=r"kernel 5 is not a published one.*give patch_stride"):
        segmaformer_config(shapes)
    known = {"patch_stride": [2, 2, 2, 2], "patch_padding": [2, 1, 1, 1]}
    inferred, _ = segmaformer_config(shapes, given=known)
    assert inferred["patch_kernel_size"] == [5, 3, 3, 3]


@pytest.mark.parametrize(
    "key",
    [
        "encoder.embed_3.proj.weight",
        "decoder.pred.weight",
        "decoder.linears.0.proj.weight",
        "encoder.stage2.0.mlp.fc1.weight",
        "encoder.stage1.0.mamba.block.conv1d.weight",
    ],
)
@pytest.mark.parametrize("shape", [None, (3,), (0, 1, 1, 1, 1)])
def test_missing_or_misshapen_evidence(key: str, shape: tuple[int, ...] | None) -> None:
    shapes = shapes_of()
    if shape is None:
        del shapes[key]
    else:
        shapes[key] = shape
    with pytest.raises(InputError, match=f"lacks {key}" if shape is None else f"{key} has shape"):
        segmaformer_config(shapes)


def test_block_of_no_known_type() -> None:
    shapes = {key: s for key, s in shapes_of().items() if "encoder.stage4.0.attn" not in key}
    with pytest.raises(InputError, match=r"encoder\.stage4\.0 has none of attn\.query\.weight"):
        segmaformer_config(shapes)


def test_uneven_inner_width() -> None:
    shapes = shapes_of()
    shapes["encoder.stage1.0.mamba.block.in_proj.weight"] = (100, 36)
    with pytest.raises(InputError, match="height is 100; expected a multiple of 72"):
        segmaformer_config(shapes)


def test_unknown_given_key_is_left_to_the_network() -> None:
    config, _ = segmaformer_config(shapes_of(), given={"colour": 1})
    with pytest.raises(ValueError, match="no configuration key colour"):
        create_model("segmaformer", **config)
