from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.ops import selective_scan
from segmaformer.ops.gradient import linear_recurrence
from segmaformer.ops.reference import selective_scan_reference

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
SUBSETS = [
    tuple(itertools.compress(NAMES[5:], given)) for given in itertools.product((0, 1), repeat=3)
]


def make_leaves(optional: tuple[str, ...], dtype: Any, length: int = 7) -> list[Any]:
    generator = torch.Generator().manual_seed(length)
    sequence, projection, vector = (2, length, 3), (2, length, 4), (3,)
    shapes = (sequence, sequence, (3, 4), projection, projection, vector, sequence, vector)
    leaves = []
    for name, shape in zip(NAMES, shapes, strict=True):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        values = -values.exp() if name == "A" else values
        given = name in NAMES[:5] or name in optional
        leaves.append(values.to(dtype).requires_grad_() if given else None)
    return leaves


def gradients(scan: Any, leaves: list[Any], **flags: bool) -> list[Any]:
    y = scan(*leaves, **flags)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
    given = [leaf for leaf in leaves if leaf is not None]
    return list(torch.autograd.grad((y.double() * weights).sum(), given))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 10, 17, 100])
def test_linear_recurrence(length: int) -> None:
    decay, drive = torch.rand(2, 2, length, 3, 2, dtype=torch.float64)
    expected, state = [], torch.zeros(2, 3, 2, dtype=torch.float64)
    for t in range(length):
        state = decay[:, t] * state + drive[:, t]
        expected.append(state)
    torch.testing.assert_close(linear_recurrence(decay, drive), torch.stack(expected, 1))


@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
def test_against_autograd_through_the_steps(
    optional: tuple[str, ...], reverse: bool, softplus: bool
) -> None:
    flags = {"delta_softplus": softplus, "reverse": reverse}
    wide = make_leaves(optional, torch.float64)
    expected = gradients(selective_scan_reference, wide, **flags)
    for found, exact in zip(gradients(selective_scan, wide, **flags), expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)
    narrow = make_leaves(optional, torch.float32)
    for found, exact in zip(gradients(selective_scan, narrow, **flags), expected, strict=True):
        assert found.dtype == torch.float32
        assert float((found - exact).abs().max()) <= 2e-5 * float(exact.abs().max())


@pytest.mark.parametrize("reverse", [False, True])
def test_finite_differences(reverse: bool) -> None:
    leaves = make_leaves(NAMES[5:], torch.float64, length=5)
    assert torch.autograd.gradcheck(
        lambda *inputs: selective_scan(*inputs, delta_softplus=True, reverse=reverse), leaves
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_have_the_type_of_their_inputs(dtype: str) -> None:
    leaves = make_leaves(NAMES[5:], getattr(torch, dtype))
    exact = gradients(
        selective_scan_reference,
        [leaf.detach().double().requires_grad_() for leaf in leaves],
        delta_softplus=True,
    )
    found = gradients(selective_scan, leaves, delta_softplus=True)
    for gradient, leaf, expected in zip(found, leaves, exact, strict=True):
        assert gradient.dtype == leaf.dtype
        assert float((gradient - expected).abs().max()) <= 0.03 * float(expected.abs().max())


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    leaves = [leaf.detach() for leaf in make_leaves(NAMES[5:], torch.float32)]
    leaves[2].requires_grad_()
    selective_scan(*leaves, delta_softplus=True).sum().backward()
    assert leaves[2].grad is not None
    assert all(leaf.grad is None for leaf in leaves if leaf is not leaves[2])


def test_length_at_which_the_last_chunk_is_padded() -> None:
    leaves = make_leaves((), torch.float64, length=23)
    expected = gradients(selective_scan_reference, leaves, delta_softplus=True)
    for found, exact in zip(
        gradients(selective_scan, leaves, delta_softplus=True), expected, strict=True
    ):
        torch.testing.assert_close(found, exact)
