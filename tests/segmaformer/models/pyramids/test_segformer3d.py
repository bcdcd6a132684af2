from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import create_model

SMALL: dict[str, Any] = {
    "in_channels": 2,
    "embed_dims": [8, 8, 10, 16],
    "depths": [1, 1, 1, 1],
    "mlp_ratios": [2, 2, 2, 2],
    "decoder_head_embedding_dim": 12,
}


@pytest.mark.parametrize("shape", [(32, 32, 32), (16, 32, 64)])
def test_learns(shape: tuple[int, int, int]) -> None:
    model = create_model("segformer3d", **SMALL)
    logits = model(torch.randn(2, 2, *shape))
    assert logits.shape == (2, 3, *shape)
    logits.square().mean().backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert not unused


def test_batch_entries_do_not_mix() -> None:
    model = create_model("segformer3d", **SMALL).eval()
    x = torch.randn(2, 2, 32, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(x)[1:], model(x[1:]))


@pytest.mark.parametrize("shape", [(1, 4, 32, 32, 32), (2, 32, 32, 32)])
def test_wrong_channels(shape: tuple[int, ...]) -> None:
    model = create_model("segformer3d", **SMALL)
    with pytest.raises(ValueError, match=r"expected \(B, 2, D, H, W\)"):
        model(torch.zeros(shape))
