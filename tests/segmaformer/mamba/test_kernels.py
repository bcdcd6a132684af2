"""The compiled modules that forks with a copy of mamba_ssm call."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.mamba import Mamba, causal_conv1d_fn, mamba_inner_fn_no_out_proj, stand_in


class CopiedInner(torch.autograd.Function):  # type: ignore[misc]
    """The inside of a Mamba layer, by the compiled modules, as forks write it."""

    @staticmethod
    def forward(ctx: Any, xz: Any, conv: Any, x_proj: Any, dt_proj: Any, A: Any, D: Any) -> Any:
        with stand_in():
            scan, filters = map(
                importlib.import_module, ("selective_scan_cuda", "causal_conv1d_cuda")
            )
        x, z = xz.chunk(2, dim=1)
        x = filters.causal_conv1d_fwd(x, conv.weight[:, 0], conv.bias, True)
        rank, states = dt_proj.weight.shape[1], A.shape[1]
        projected = x_proj @ x
        delta = dt_proj.weight @ projected[:, :rank]
        b, c = (part.unsqueeze(1) for part in projected[:, rank:].split(states, dim=1))
        _, kept, gated = scan.fwd(x, delta, A, b, c, D, z, dt_proj.bias, True)
        ctx.save_for_backward(kept)
        return gated


def test_copied_code_gives_the_same_layer() -> None:
    torch.manual_seed(0)
    layer = Mamba(8, d_state=4)
    xz = torch.randn(2, 32, 10)
    A = -layer.A_log.exp()
    with torch.no_grad():
        found = CopiedInner.apply(xz, layer.conv1d, layer.x_proj.weight, layer.dt_proj, A, layer.D)
        expected = mamba_inner_fn_no_out_proj(
            xz, layer.conv1d.weight, layer.conv1d.bias, layer.x_proj.weight, layer.dt_proj.weight,
            A, D=layer.D, delta_bias=layer.dt_proj.bias,
        )  # fmt: skip
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("between", [(), (None,), (None, None, None)])
@pytest.mark.parametrize("silu", [True, False])
def test_signatures_of_all_versions(between: tuple[None, ...], silu: bool) -> None:
    x, weight, bias = torch.randn(1, 3, 7), torch.randn(3, 4), torch.randn(3)
    with stand_in():
        forward = importlib.import_module("causal_conv1d_cuda").causal_conv1d_fwd
    expected = causal_conv1d_fn(x, weight, bias, activation="silu" if silu else None)
    torch.testing.assert_close(forward(x, weight, bias, *between, silu), expected)


def test_states_are_never_taken_for_numbers() -> None:
    with stand_in():
        scan = importlib.import_module("selective_scan_cuda")
        filters = importlib.import_module("causal_conv1d_cuda")
    u, A = torch.randn(1, 2, 5), -torch.ones(2, 3)
    _, states = scan.fwd(u, u, A, u[:, :1].expand(1, 3, 5), u[:, :1].expand(1, 3, 5), None, None,
                         None, True)  # fmt: skip
    assert states.shape == (1, 2, 1, 6)
    assert states.isnan().all()
    with pytest.raises(NotImplementedError, match="no states"):
        filters.causal_conv1d_fwd(u, torch.randn(2, 4), None, torch.zeros(1), True)
    with pytest.raises(AttributeError, match="has no bwd"):
        scan.bwd  # noqa: B018
