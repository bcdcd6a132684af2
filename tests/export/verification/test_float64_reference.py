from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.export.verification import float64_reference
from segmaformer.export.verification.float64_reference import float64_logits
from segmaformer.models import create_model

TINY_TAMING: dict[str, Any] = {
    "features_per_stage": [4, 6],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage_encoder": [1, 1],
    "n_conv_per_stage_decoder": [1],
}
NETWORKS: dict[str, dict[str, Any]] = {
    "segmaformer": {"in_channels": 4, "depths": [1] * 4},
    "segformer3d": {"embed_dims": [8, 8, 10, 16], "depths": [1] * 4},
    "segmamba": {
        "feat_size": [4] * 4,
        "hidden_size": 8,
        "depths": [1] * 4,
        "d_state": 2,
        "nslices": [4, 2, 2, 2],
    },
    "segresmamba": {"feat_size": [8] * 4, "d_state": 2},
    "taming-segmamba": TINY_TAMING,
    "taming-bisegmamba": TINY_TAMING,
    "taming-multisegmamba": TINY_TAMING,
    "taming-segmambaskip": TINY_TAMING,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs_in_float64_and_stays_float32(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, **NETWORKS[name]).eval()
    channels = 1 if name.startswith("taming") else 4
    shape = (channels, 8, 8, 8) if channels == 1 else (channels, 32, 32, 64)
    tile = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(tile[None]))[0].numpy()
    found = float64_logits(model, tile)
    assert found.dtype == np.float64
    assert 0 < np.abs(found - expected).max() < 5e-6 * np.ptp(expected)
    with torch.no_grad():
        np.testing.assert_array_equal(model(torch.from_numpy(tile[None]))[0].numpy(), expected)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (3, {"padding": 1}),
        (1, {}),
        ((1, 3, 3), {"padding": (0, 1, 1), "bias": False}),
        (7, {"stride": 2, "padding": 3}),
        (4, {"stride": (4, 2, 4)}),
        (3, {"padding": 2, "dilation": 2}),
        (3, {"padding": 1, "groups": 4}),
    ],
)
@pytest.mark.parametrize("limit", [1, 40_000, 2**28])
def test_convolutions_by_planes_are_the_whole_ones(
    kernel: Any, options: dict[str, Any], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float64_reference, "NEIGHBOURS_BYTES", limit)
    torch.manual_seed(0)
    conv = torch.nn.Conv3d(4, 8, kernel, **options)
    tile = np.random.default_rng(0).normal(size=(4, 12, 10, 9)).astype(np.float32)
    found = float64_logits(conv, tile)
    with torch.no_grad():
        expected = conv.double()(torch.from_numpy(tile[None]).double())[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
