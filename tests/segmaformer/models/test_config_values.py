from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import list_models, list_presets, model_config


@pytest.mark.parametrize(
    ("network", "key", "value", "expected"),
    [
        ("segmamba", "mamba_residual", "false", "expected true or false$"),
        ("segmamba", "mamba_residual", 0, "expected true or false$"),
        ("segmamba", "nslices", [-2] * 4, r"such as \[64, 32, 16, 8\].*more than zero"),
        ("segmamba", "nslices", 64, "expected a list"),
        ("segmamba", "nslices", [], "expected a list"),
        ("segmamba", "d_state", True, "a whole number such as 16"),
        ("segmamba", "d_state", 16.0, "a whole number such as 16"),
        ("segresmamba", "use_tom", None, "expected true or false$"),
        ("segresmamba", "feat_size", [[48]] * 4, "expected a list"),
        ("segformer3d", "num_heads", [0, 2, 5, 8], "more than zero"),
        ("segformer3d", "mlp_ratios", [float("nan")] * 4, "more than zero"),
        ("segformer3d", "patch_padding", [-1] * 4, "zero or more"),
        ("segmaformer", "patch_stride", [[4, 4], 2, 2, 2], "expected a list"),
        ("segmaformer", "rope_theta", 0, "a number such as 10000.0, more than zero"),
        ("segmaformer", "stage_block_types", "mamba", "expected a list"),
        ("taming-segmamba", "strides", [[0, 1, 1]] * 6, "more than zero"),
        ("taming-segmamba", "strides", [1] * 6, "expected a list"),
        ("taming-segmamba", "d_state_rule", 256, "text such as"),
    ],
)
def test_values_of_another_kind_are_refused(
    network: str, key: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=f"^{key} is .*{expected}"):
        model_config(network, **{key: value})


@pytest.mark.parametrize(
    ("network", "key", "value"),
    [
        ("segmamba", "nslices", None),
        ("segmaformer", "patch_stride", [[4, 4, 4], 2, (2, 2, 2), 2]),
        ("segmaformer", "mlp_ratios", [4, 2.5, 3, 3]),
        ("segmaformer", "decoder_dropout", 0),
        ("segmaformer", "rope_theta", 100),
        ("taming-segmamba", "strides", ((1, 1, 1),) * 6),
    ],
)
def test_other_values_of_the_same_kind(network: str, key: str, value: Any) -> None:
    assert model_config(network, **{key: value})[key] == value


@pytest.mark.parametrize("network", list_models())
def test_published_values_are_of_the_right_kind(network: str) -> None:
    for preset in list_presets(network):
        published = model_config(network, preset=preset)
        assert model_config(network, **published) == published
