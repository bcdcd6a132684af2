from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.layers.mamba import Mamba
from segmaformer.models.segmamba.tri_mamba import TriMamba, slices_inside, slices_outside

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


brief = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 1000)


@brief
@given(slices=st.integers(1, 6), length=st.integers(1, 6), axis=st.sampled_from([1, 2]))
def test_slices_are_visited_place_by_place(slices: int, length: int, axis: int) -> None:
    sequence = torch.arange(slices * length).view(1, -1, 1).expand(2, -1, 3)
    inside = slices_inside(sequence.transpose(1, axis), slices, axis=axis).transpose(1, axis)
    expected = [s * length + place for place in range(length) for s in range(slices)]
    assert inside[1, :, 2].tolist() == expected
    assert torch.equal(slices_outside(inside, slices), sequence)


@brief
@given(length=st.integers(1, 20), width=st.integers(1, 5), seed=seeds)
def test_with_the_same_weights_both_directions_are_alike(
    length: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = TriMamba(width, d_state=2, d_conv=3, expand=1, nslices=None)
    weights = layer.state_dict()
    for name, values in weights.items():
        values.copy_(weights[name.replace("_b", "", 1)])
    tokens = torch.randn(2, length, width)
    with torch.inference_mode():
        torch.testing.assert_close(layer(tokens.flip(1)), layer(tokens).flip(1))


@brief
@given(slices=st.integers(1, 4), length=st.integers(1, 5), width=st.integers(1, 5), seed=seeds)
def test_orders_add_up_at_any_size(slices: int, length: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"d_state": 2, "d_conv": 4, "expand": 2, "nslices": slices}
    layer, alone = TriMamba(width, **sizes), TriMamba(width, **sizes)
    tokens = torch.randn(1, slices * length, width)
    parts = []
    with torch.inference_mode():
        for order in layer.orders:
            alone.load_state_dict(layer.state_dict())
            for other in set(layer.orders) - {order}:  # without features, a scan gives zero
                alone.get_submodule(f"conv1d{other}").weight.zero_()
                alone.get_submodule(f"conv1d{other}").bias.zero_()
            parts.append(alone(tokens))
        torch.testing.assert_close(layer(tokens), sum(parts))
