from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from segmaformer.models.layers.mamba import Mamba, causal_depthwise_conv
from segmaformer.ops.reference import selective_scan_reference


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_causal_convolution(length: int, taps: int, reverse: bool) -> None:
    x, weight, bias = torch.randn(2, 5, length), torch.randn(5, 1, taps), torch.randn(5)
    seen = x.flip(-1) if reverse else x
    expected = F.conv1d(seen, weight, bias, padding=taps - 1, groups=5)[..., :length]
    expected = expected.flip(-1) if reverse else expected
    found = causal_depthwise_conv(x, weight, bias, reverse=reverse)
    torch.testing.assert_close(found, expected)
    unbiased = causal_depthwise_conv(x, weight, None, reverse=reverse)
    torch.testing.assert_close(unbiased, expected - bias[:, None])


def published_forward(mixer: Any, tokens: Any) -> Any:
    """Compute the mixer's definition with plain operators, channels first as in mamba-ssm."""
    length, states = tokens.shape[1], mixer.A_log.shape[1]
    x, z = mixer.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
    x = F.silu(mixer.conv1d(x)[..., :length])
    step, b, c = mixer.x_proj(x.transpose(1, 2)).split((mixer.rank, states, states), dim=-1)
    y = selective_scan_reference(
        x.transpose(1, 2),
        step @ mixer.dt_proj.weight.t() + mixer.dt_proj.bias,
        -torch.exp(mixer.A_log),
        b,
        c,
        D=mixer.D,
        z=z.transpose(1, 2),
        delta_softplus=True,
    )
    return mixer.out_proj(y)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (12, {}),
        (36, {"d_state": 8, "d_conv": 3}),
        (33, {"d_state": 4, "expand": 1}),
        (8, {"d_state": 1, "d_conv": 2, "expand": 3}),
    ],
)
def test_against_the_definition(channels: int, options: dict[str, int]) -> None:
    torch.manual_seed(channels)
    mixer = Mamba(channels, **options)
    tokens = torch.randn(2, 17, channels)
    with torch.inference_mode():
        torch.testing.assert_close(mixer(tokens), published_forward(mixer, tokens))


def test_later_tokens_do_not_reach_back() -> None:
    mixer = Mamba(12)
    tokens = torch.randn(1, 20, 12)
    changed = tokens.clone()
    changed[:, 13:] += 1
    with torch.inference_mode():
        before, after = mixer(tokens), mixer(changed)
    torch.testing.assert_close(before[:, :13], after[:, :13])
    assert not torch.allclose(before[:, 13:], after[:, 13:])


def test_initial_time_steps() -> None:
    step = F.softplus(Mamba(256).dt_proj.bias.detach())
    assert float(step.min()) >= 1e-3 * 0.999
    assert float(step.max()) <= 0.1 * 1.001
    assert float(step.log().std()) > 1  # spread over two decades, not bunched


def test_rank_is_rounded_up() -> None:
    assert Mamba(33).x_proj.weight.shape == (3 + 2 * 16, 66)


mixers = st.fixed_dictionaries(
    {
        "d_state": st.integers(1, 6),
        "d_conv": st.integers(1, 5),
        "expand": st.integers(1, 3),
    }
)
brief = settings(max_examples=20)


@brief
@given(channels=st.integers(1, 40), options=mixers)
def test_number_of_parameters(channels: int, options: dict[str, int]) -> None:
    inner, rank = options["expand"] * channels, -(-channels // 16)
    expected = 3 * channels * inner  # into both branches, and out again
    expected += inner * (options["d_conv"] + 1)
    expected += inner * (rank + 2 * options["d_state"]) + inner * (rank + 1)
    expected += inner * (options["d_state"] + 1)
    mixer = Mamba(channels, **options)
    assert sum(parameter.numel() for parameter in mixer.parameters()) == expected


@brief
@given(
    channels=st.integers(1, 9),
    options=mixers,
    length=st.integers(1, 20),
    reverse=st.booleans(),
    data=st.data(),
)
def test_a_token_reaches_only_those_that_follow(
    channels: int, options: dict[str, int], length: int, reverse: bool, data: st.DataObject
) -> None:
    torch.manual_seed(length)
    mixer = Mamba(channels, **options)
    place = data.draw(st.integers(0, length - 1))
    tokens = torch.randn(1, length, channels)
    changed = tokens.clone()
    changed[:, place] += 3
    with torch.inference_mode():
        same = torch.isclose(
            mixer(tokens, reverse=reverse), mixer(changed, reverse=reverse), rtol=1e-5, atol=1e-7
        )
    before = same[0, place + 1 :] if reverse else same[0, :place]
    assert before.all()
    assert not same[0, place].all()


@brief
@given(channels=st.integers(1, 9), options=mixers, length=st.integers(1, 20))
def test_reverse_is_a_flipped_sequence(channels: int, options: dict[str, int], length: int) -> None:
    torch.manual_seed(length)
    mixer = Mamba(channels, **options)
    tokens = torch.randn(3, length, channels)
    with torch.inference_mode():
        expected = mixer(tokens.flip(1)).flip(1)
        torch.testing.assert_close(mixer(tokens, reverse=True), expected)
        torch.testing.assert_close(mixer(tokens[[2, 0, 1]]), mixer(tokens)[[2, 0, 1]])
