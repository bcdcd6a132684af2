from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import create_model

SMALL: dict[str, Any] = {
    "in_chans": 1,
    "out_chans": 2,
    "depths": [1, 1, 1, 1],
    "feat_size": [4, 6, 8, 10],
    "hidden_size": 12,
    "d_state": 3,
}


def test_learns() -> None:
    model = create_model("segmamba", **SMALL)
    logits = model(torch.randn(1, 1, 32, 32, 32))
    assert logits.shape == (1, 2, 32, 32, 32)
    logits.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_early_form_has_no_order_across_slices() -> None:
    with torch.device("meta"):
        now = set(create_model("segmamba", **SMALL).state_dict())
        early = set(create_model("segmamba", **SMALL, nslices=None).state_dict())
    assert early < now
    suffixes = ("_s.weight", "_s.bias", ".A_s_log", ".D_s")
    assert all(key.endswith(suffixes) for key in now - early)


def test_residual_is_the_identity_around_each_layer() -> None:
    torch.manual_seed(0)
    model = create_model("segmamba", **SMALL).eval()
    plain = create_model("segmamba", **SMALL, mamba_residual=False).eval()
    plain.load_state_dict(model.state_dict())
    volume = torch.randn(1, 4, 8, 8, 16)
    with torch.inference_mode():
        mixed = plain.vit.stages[0][0](volume)
        torch.testing.assert_close(model.vit.stages[0][0](volume), mixed + volume)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 32, 32, 32), r"expected \(B, 1, D, H, W\)"),
        ((1, 1, 32, 40, 32), r"multiples of \(16, 16, 16\)"),
        ((1, 1, 0, 32, 32), r"multiples of \(16, 16, 16\)"),
        ((1, 1, 16, 48, 16), "24 tokens|3 tokens cannot be cut into 8 slices"),
    ],
)
def test_inputs_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    model = create_model("segmamba", **SMALL)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(shape))
