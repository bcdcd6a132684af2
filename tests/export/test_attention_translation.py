"""Attention of three to five axes, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs.graphs import run

torch = pytest.importorskip("torch")

from segmaformer.export.onnx_export import export_onnx

TILE = (4, 2, 6)


class Attention(torch.nn.Module):  # type: ignore[misc]
    """Attention along the last axis but one of (B, 2, 4, 2, 6), brought to a number of axes."""

    def __init__(self, rank: int, mask: str, scale: float | None) -> None:
        super().__init__()
        self.rank, self.scale = rank, scale
        length = {3: 8, 4: 8, 5: 2}[rank]
        kept = torch.ones(length, length).tril().bool()
        masks = {
            "none": None,
            "bool": kept,
            "float": torch.linspace(-1, 1, length**2).view_as(kept),
        }
        self.mask = masks[mask]

    def forward(self, x: Any) -> Any:
        shape = {3: (-1, 8, 6), 4: (x.shape[0], 2, 8, 6), 5: x.shape}[self.rank]
        query, key, value = (factor * x.reshape(shape) for factor in (1, 2, -1))
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=self.mask, scale=self.scale
        )
        return attended.reshape(x.shape)


@pytest.mark.parametrize(
    ("rank", "mask", "scale"),
    [
        (3, "none", None),
        (3, "float", None),
        (4, "bool", None),
        (5, "none", 0.3),
        (5, "bool", None),
    ],
)
def test_equals_pytorch(rank: int, mask: str, scale: float | None) -> None:
    network = Attention(rank, mask, scale).eval()
    model = export_onnx(network, TILE, 2)
    x = np.random.default_rng(0).normal(size=(3, 2, *TILE)).astype(np.float32)
    expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(model, {"tiles": x}), expected, rtol=1e-5, atol=1e-6)
