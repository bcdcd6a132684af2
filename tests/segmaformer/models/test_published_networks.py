from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.networks.published import CASES, SEGMAFORMER_CASES, published_case

torch = pytest.importorskip("torch")

from segmaformer.models import create_model, list_models, list_presets, model_config

# Tensors and trained values of the published configurations.
COUNTS = {
    "segformer3d": (232, 4_525_251),
    "segmamba": (291, 67_416_196),
    "segresmamba": (255, 111_610_951),
    "taming-segmamba": (329, 60_800_966),
    "taming-bisegmamba": (431, 64_445_606),
    "taming-multisegmamba": (995, 77_653_734),
    "taming-segmambaskip": (431, 64_445_606),
    "nnunet-plain": (108, 30_713_158),
    "nnunet-resenc": (264, 101_867_334),
    "umamba-bot": (207, 41_945_158),
    "umamba-enc": (262, 42_859_142),
}


@pytest.mark.parametrize("name", CASES)
def test_published_outputs(golden_dir: Path, name: str) -> None:
    case = published_case(golden_dir, name)
    model = create_model(case.arch, **case.config)
    assert {key: tuple(t.shape) for key, t in model.state_dict().items()} == case.shapes
    assert set(model_config(case.arch)) - set(case.config) <= {
        "use_gate",
        "decoder_dropout",
        "generation",
        "planar",
    }
    with torch.inference_mode():
        logits = case.load_into(model)(torch.from_numpy(case.tiles)).numpy()
    assert case.error(logits) <= 4


@pytest.mark.parametrize("name", [*SEGMAFORMER_CASES, "segformer3d_64", "taming_segmamba"])
def test_published_outputs_in_float64(golden_dir: Path, name: str) -> None:
    case = published_case(golden_dir, name)
    model = case.load_into(create_model(case.arch, **case.config)).double()
    with torch.inference_mode():
        logits = model(torch.from_numpy(case.tiles).double()).numpy()
    assert case.error(logits) <= 1.2


@pytest.mark.parametrize("name", COUNTS)
def test_tensors_and_parameters(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (len(model.state_dict()), parameters) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_presets(name: str) -> None:
    assert set(COUNTS) == set(list_models()) - {"segmaformer"}
    (preset,) = list_presets(name)
    assert model_config(name, preset=preset) == model_config(name)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("segformer3d", {"num_heads": [1, 2, 5]}, "num_heads has 3 entries; SegFormer3D has 4"),
        ("segformer3d", {"num_heads": [1, 2, 5, 7]}, "256 channels cannot be divided over 7"),
        ("segmamba", {"nslices": [8]}, "nslices has 1 entries; SegMamba has 4 stages"),
        ("segresmamba", {"feat_size": [8] * 5}, "feat_size has 5 entries; SegResMamba has 4"),
        ("taming-segmamba", {"strides": [[1, 1, 1]]}, "strides has 1 entries; TamingSegMamba has"),
        ("taming-segmamba", {"d_state_rule": "16"}, r"d_state_rule is '16'; expected a form such"),
        ("segmamba", {"in_channels": 1}, "segmamba has no configuration key in_channels"),
    ],
)
def test_configurations_that_are_refused(name: str, config: Any, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_model(name, **config)
