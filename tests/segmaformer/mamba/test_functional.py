"""Functions of mamba_ssm, against the scan as its definition reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.mamba import (
    bimamba_inner_fn,
    causal_conv1d_fn,
    mamba_inner_fn,
    mamba_inner_fn_no_out_proj,
    selective_scan_fn,
)
from segmaformer.ops.reference import selective_scan_reference

BATCH, CHANNELS, STATES, LENGTH = 2, 6, 3, 7


def sequence(*shape: int) -> Any:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def by_definition(u: Any, delta: Any, A: Any, B: Any, C: Any) -> Any:
    """One channel after the other, each with its own B and C (B, D, N, L)."""
    rows = [
        selective_scan_reference(
            u[:, k : k + 1].transpose(1, 2),
            delta[:, k : k + 1].transpose(1, 2),
            A[k : k + 1],
            B[:, k].transpose(1, 2),
            C[:, k].transpose(1, 2),
            delta_softplus=True,
        )
        for k in range(u.shape[1])
    ]
    return torch.cat(rows, dim=2).transpose(1, 2)


@pytest.mark.parametrize("b_groups", [None, 0, 1, 2, 3, 6])
@pytest.mark.parametrize("c_groups", [None, 0, 1])
def test_forms_of_b_and_c(b_groups: int | None, c_groups: int | None) -> None:
    def make(groups: int | None) -> tuple[Any, Any]:
        if groups is None:
            matrix = sequence(CHANNELS, STATES)
            return matrix, matrix[None, :, :, None].expand(BATCH, -1, -1, LENGTH)
        matrix = sequence(BATCH, groups or 1, STATES, LENGTH)
        repeated = matrix.repeat_interleave(CHANNELS // (groups or 1), dim=1)
        return (matrix[:, 0] if groups == 0 else matrix), repeated

    (B, b), (C, c) = make(b_groups), make(c_groups)
    u, delta = sequence(BATCH, CHANNELS, LENGTH), sequence(BATCH, CHANNELS, LENGTH)
    A = -sequence(CHANNELS, STATES).exp()
    found = selective_scan_fn(u, delta, A, B, C, delta_softplus=True)
    torch.testing.assert_close(found, by_definition(u, delta, A, b, c))


def test_published_grouped_scan(golden_dir: Path) -> None:
    golden = np.load(golden_dir / "scan_grouped_bc.npz")
    tensors = {key: torch.from_numpy(golden[key]) for key in golden if golden[key].ndim > 0}
    names = {"u", "delta", "A", "B", "C", "D", "z", "delta_bias"} & tensors.keys()
    found = selective_scan_fn(**{name: tensors[name] for name in names}, delta_softplus=True)
    error = (found - tensors["out"]).abs().max().item()
    assert error <= 4 * float(golden["noise"])


@pytest.mark.parametrize("activation", [None, "silu", "swish"])
def test_convolution_sees_nothing_later(activation: str | None) -> None:
    x, weight, bias = sequence(1, 2, 5), sequence(2, 4), sequence(2)
    found = causal_conv1d_fn(x, weight, bias, activation=activation)
    padded = torch.nn.functional.pad(x, (3, 0))
    expected = torch.stack(
        [(padded[..., t : t + 4] * weight).sum(-1) + bias for t in range(5)], dim=-1
    )
    expected = expected if activation is None else torch.nn.functional.silu(expected)
    torch.testing.assert_close(found, expected)


def layer() -> dict[str, Any]:
    return {
        "conv1d_weight": sequence(CHANNELS, 1, 4),
        "conv1d_bias": sequence(CHANNELS),
        "x_proj_weight": sequence(2 + 2 * STATES, CHANNELS),
        "delta_proj_weight": sequence(CHANNELS, 2),
        "A": -sequence(CHANNELS, STATES).exp(),
        "D": sequence(CHANNELS),
        "delta_bias": sequence(CHANNELS),
    }


def test_biases_of_b_and_c_are_added_before_the_scan() -> None:
    xz, parameters = sequence(BATCH, 2 * CHANNELS, LENGTH), layer()
    zero, one = torch.zeros(STATES).double(), torch.ones(STATES).double()
    plain = mamba_inner_fn_no_out_proj(xz, **parameters)
    same = mamba_inner_fn_no_out_proj(xz, **parameters, B_proj_bias=zero, C_proj_bias=zero)
    other = mamba_inner_fn_no_out_proj(xz, **parameters, B_proj_bias=one)
    assert torch.equal(plain, same)
    assert not torch.allclose(plain, other)


def test_two_directions_with_one_matrix_are_symmetric() -> None:
    xz, parameters = sequence(BATCH, 2 * CHANNELS, LENGTH), layer()
    parameters["conv1d_weight"][..., :3] = 0  # a filter of one tap is the same from either end
    projection = {"out_proj_weight": sequence(4, CHANNELS), "out_proj_bias": None}
    A = parameters.pop("A")
    both = bimamba_inner_fn(xz, **parameters, **projection, A=A, A_b=A)
    onward = mamba_inner_fn(xz, **parameters, **projection, A=A)
    back = mamba_inner_fn(xz.flip(-1), **parameters, **projection, A=A).flip(1)
    torch.testing.assert_close(both, onward + back)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_last_state": True}, "return_last_state"),
        ({"A": torch.ones(CHANNELS, STATES, dtype=torch.complex64)}, "A is complex"),
    ],
)
def test_scans_that_are_not_honoured(options: dict[str, Any], message: str) -> None:
    u, A, B = sequence(1, CHANNELS, 4), sequence(CHANNELS, STATES), sequence(1, STATES, 4)
    with pytest.raises(NotImplementedError, match=message):
        selective_scan_fn(**{"u": u, "delta": u, "A": A, "B": B, "C": B, **options})


def test_groups_that_do_not_share_the_channels() -> None:
    u, A, B = sequence(1, CHANNELS, 4), sequence(CHANNELS, STATES), sequence(1, 4, STATES, 4)
    with pytest.raises(ValueError, match="4 groups of B"):
        selective_scan_fn(u, u, A, B, B)


@pytest.mark.parametrize(
    "options",
    [{"seq_idx": 1}, {"initial_states": 1}, {"return_final_states": True}, {"activation": "gelu"}],
)
def test_convolutions_that_are_not_honoured(options: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError):
        causal_conv1d_fn(sequence(1, 2, 5), sequence(2, 4), **options)
