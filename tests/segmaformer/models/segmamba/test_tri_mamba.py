from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models.layers.mamba import Mamba
from segmaformer.models.segmamba.tri_mamba import TriMamba

CHANNELS, LENGTH, SLICES = 6, 12, 3


def one_order(layer: TriMamba, suffix: str) -> Mamba:
    """Build a plain Mamba with the weights of one order."""
    mamba = Mamba(CHANNELS, d_state=3, d_conv=4, expand=2)
    weights = layer.state_dict()
    names = {
        key: key.replace("A_log", f"A{suffix}_log")
        if key == "A_log"
        else key.replace(key.split(".")[0], key.split(".")[0] + suffix, 1)
        for key in mamba.state_dict()
    }
    for shared in ("in_proj.weight", "out_proj.weight"):
        names[shared] = shared
    mamba.load_state_dict({key: weights[name] for key, name in names.items()})
    return mamba


def test_sum_of_three_orders() -> None:
    torch.manual_seed(0)
    layer = TriMamba(CHANNELS, d_state=3, d_conv=4, expand=2, nslices=SLICES)
    tokens = torch.randn(2, LENGTH, CHANNELS)
    across = [s * (LENGTH // SLICES) + m for m in range(LENGTH // SLICES) for s in range(SLICES)]
    back = torch.tensor(across).argsort()
    with torch.inference_mode():
        expected = one_order(layer, "")(tokens)
        expected = expected + one_order(layer, "_b")(tokens.flip(1)).flip(1)
        expected = expected + one_order(layer, "_s")(tokens[:, across])[:, back]
        torch.testing.assert_close(layer(tokens), expected)


def test_two_orders_without_slices() -> None:
    torch.manual_seed(0)
    layer = TriMamba(CHANNELS, d_state=3, d_conv=4, expand=2, nslices=None)
    tokens = torch.randn(1, LENGTH, CHANNELS)
    with torch.inference_mode():
        expected = one_order(layer, "")(tokens)
        expected = expected + one_order(layer, "_b")(tokens.flip(1)).flip(1)
        torch.testing.assert_close(layer(tokens), expected)


def test_length_that_cannot_be_cut() -> None:
    layer = TriMamba(CHANNELS, d_state=3, d_conv=4, expand=2, nslices=5)
    with pytest.raises(ValueError, match="12 tokens cannot be cut into 5 slices"):
        layer(torch.zeros(1, LENGTH, CHANNELS))


@pytest.mark.parametrize("taps", [1, 3, 4])
def test_reverse_is_a_flipped_sequence(taps: int) -> None:
    torch.manual_seed(0)
    mamba = Mamba(CHANNELS, d_state=3, d_conv=taps, expand=2)
    tokens = torch.randn(2, LENGTH, CHANNELS)
    with torch.inference_mode():
        expected = mamba(tokens.flip(1)).flip(1)
        torch.testing.assert_close(mamba(tokens, reverse=True), expected)
