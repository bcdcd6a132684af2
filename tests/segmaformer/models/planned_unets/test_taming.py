from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import create_model
from segmaformer.models.planned_unets.nnunet_blocks import downsampling
from segmaformer.models.planned_unets.taming import state_limit
from segmaformer.models.planned_unets.taming_blocks import FourOrdersLayer

NAMES = ["taming-segmamba", "taming-bisegmamba", "taming-multisegmamba", "taming-segmambaskip"]
SMALL: dict[str, Any] = {
    "num_classes": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [1, 2, 1],
    "n_conv_per_stage_decoder": [1, 2],
    "d_state_rule": "min(channels, 5)",
}


@pytest.mark.parametrize("name", NAMES)
def test_learns(name: str) -> None:
    model = create_model(name, **SMALL)
    logits = model(torch.randn(1, 1, 4, 8, 12))
    assert logits.shape == (1, 3, 4, 8, 12)
    logits.square().mean().backward()
    unused = {key for key, p in model.named_parameters() if p.grad is None}
    # Only training with deep supervision reads the coarser level's classifier.
    assert unused == {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}


def test_state_size_follows_the_rule() -> None:
    model = create_model("taming-segmamba", **SMALL)
    states = [layer.mamba.mamba.A_log.shape[1] for layer in model.encoder.mamba_layers]
    assert states == [4, 5, 5]


def test_skip_variant_has_the_same_weights_and_another_result() -> None:
    torch.manual_seed(0)
    two_way = create_model("taming-bisegmamba", **SMALL).eval()
    skip = create_model("taming-segmambaskip", **SMALL).eval()
    skip.load_state_dict(two_way.state_dict())
    x = torch.randn(1, 1, 4, 8, 8)
    with torch.inference_mode():
        assert not torch.allclose(two_way(x), skip(x))


def test_four_orders_visit_every_voxel_once() -> None:
    layer = FourOrdersLayer(2, lambda channels: torch.nn.Identity())
    volume = torch.randn(2, 2, 3, 4, 5)
    torch.testing.assert_close(layer(volume), volume)


def test_four_orders_name_the_slowest_axis_first() -> None:
    sequences: list[Any] = []

    class Recorder(torch.nn.Module):
        def forward(self, tokens: Any) -> Any:
            sequences.append(tokens[0, :, 0].tolist())
            return tokens

    layer = FourOrdersLayer(1, lambda channels: Recorder())
    volume = torch.arange(24.0).view(1, 1, 2, 3, 4)
    layer(volume)
    assert [s[:3] for s in sequences] == [[0, 1, 2], [0, 4, 8], [0, 1, 2], [0, 4, 8]]
    assert [s[-4] for s in sequences] == [20, 22, 20, 11]


def test_downsampling() -> None:
    assert downsampling([[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 1, 3]]) == (2, 4, 12)


@pytest.mark.parametrize("rule", ["16", "min(channels, 0)", "min(channels, 4", "max(channels, 4)"])
def test_unreadable_state_rules(rule: str) -> None:
    with pytest.raises(ValueError, match="expected a form such as"):
        state_limit(rule)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 4, 8, 8), r"expected \(B, 1, D, H, W\)"),
        ((1, 1, 3, 8, 8), r"multiples of \(2, 4, 4\)"),
        ((1, 1, 4, 8, 6), r"multiples of \(2, 4, 4\)"),
    ],
)
def test_inputs_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("taming-segmamba", **SMALL)(torch.zeros(shape))
