from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import create_model

NAMES = ["nnunet-plain", "nnunet-resenc"]
SMALL: dict[str, Any] = {
    "num_classes": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [2, 1, 2],
    "n_conv_per_stage_decoder": [1, 2],
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


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_uses_what_training_recorded(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, **SMALL, norm="batch").eval()
    one, other = torch.randn(2, 1, 1, 4, 8, 8)
    with torch.inference_mode():
        together = model(torch.cat((one, 50 * other)))
        torch.testing.assert_close(together[:1], model(one))


@pytest.mark.parametrize("name", NAMES)
def test_slope_zero_is_a_relu(name: str) -> None:
    torch.manual_seed(0)
    leaky = create_model(name, **SMALL)
    relu = create_model(name, **SMALL, negative_slope=0.0)
    relu.load_state_dict(leaky.state_dict())
    volume = torch.randn(1, 1, 4, 8, 8)
    with torch.inference_mode():
        assert not torch.allclose(leaky(volume), relu(volume))
        style = relu.encoder.stages[0][0].style if name == NAMES[0] else relu.encoder.stem.style
        assert torch.equal(style.activate(volume), torch.relu(volume))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "group"}, "known: instance, batch"),
        ({"kernel_sizes": [[3, 3, 3]]}, "PlainUNet has 3 stages"),
    ],
)
def test_configurations_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("nnunet-plain", **{**SMALL, **change})
