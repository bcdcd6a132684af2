"""Modules of mamba_ssm: against the project's own layers, and against their definitions."""

from __future__ import annotations

import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.mamba import Mamba, Mamba2, Mamba2Simple, RMSNormGated, convert, stand_in
from segmaformer.models.layers.mamba import Mamba as OwnMamba
from segmaformer.models.segmamba.tri_mamba import TriMamba

F = torch.nn.functional


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def same_weights(theirs: Any, ours: Any) -> Any:
    ours.load_state_dict(theirs.state_dict())
    return ours


def tokens(length: int = 12, width: int = 20) -> Any:
    return torch.randn(2, length, width)


def test_mamba_is_the_projects_own() -> None:
    own = OwnMamba(20, d_state=8)
    layer = same_weights(own, Mamba(20, d_state=8))
    x = tokens()
    torch.testing.assert_close(layer(x), own(x))


@pytest.mark.parametrize(("kind", "nslices"), [("v2", None), ("v3", 4)])
def test_forks_are_segmambas(kind: str, nslices: int | None) -> None:
    own = TriMamba(20, d_state=4, d_conv=4, expand=2, nslices=nslices)
    layer = same_weights(own, Mamba(20, d_state=4, bimamba_type=kind, nslices=nslices))
    x = tokens()
    torch.testing.assert_close(layer(x), own(x))


def test_v2_can_average() -> None:
    layer = Mamba(20, bimamba_type="v2")
    halved = same_weights(layer, Mamba(20, bimamba_type="v2", if_devide_out=True))
    x = tokens()
    torch.testing.assert_close(2 * halved(x), layer(x))


def test_v1_with_one_matrix_and_one_tap_is_symmetric() -> None:
    layer = Mamba(20, bimamba_type="v1", d_conv=1)
    x = tokens()
    torch.testing.assert_close(layer(x.flip(1)).flip(1), layer(x))
    with torch.no_grad():
        layer.A_b_log += 1
    assert not torch.allclose(layer(x.flip(1)).flip(1), layer(x), atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_projections_may_have_a_bias(bias: bool) -> None:
    layer = Mamba(20, bias=bias, dt_rank=3)
    x = tokens()
    assert layer(x).shape == x.shape
    assert (layer.in_proj.bias is not None) is bias
    if bias:
        before = layer(x)
        with torch.no_grad():
            layer.in_proj.bias += 0.5
        assert not torch.allclose(before, layer(x))


def one_step_at_a_time(layer: Any, u: Any) -> Any:
    """Mamba-2 as its definition reads, in float64."""
    others, filtered = layer.d_inner - layer.d_ssm, layer.conv1d.out_channels
    gate, linear, z, xbc, dt = layer.in_proj(u).split(
        (others, others, layer.d_ssm, filtered, layer.nheads), -1
    )
    length = u.shape[1]
    xbc = F.silu(layer.conv1d(xbc.transpose(1, 2))[..., :length]).transpose(1, 2)
    states = layer.ngroups * layer.d_state
    x, b, c = xbc.split((layer.d_ssm, states, states), -1)
    x = x.unflatten(2, (layer.nheads, -1))
    per_group = layer.nheads // layer.ngroups
    b, c = (t.unflatten(2, (layer.ngroups, -1)).repeat_interleave(per_group, 2) for t in (b, c))
    dt = F.softplus(dt + layer.dt_bias).clamp(*layer.dt_limit)
    decay = (dt * -layer.A_log.exp()).exp()
    state = torch.zeros(u.shape[0], layer.nheads, layer.headdim, layer.d_state).to(u)
    rows = []
    for t in range(length):
        step = dt[:, t, :, None, None] * x[:, t, ..., None] * b[:, t, :, None]
        state = decay[:, t, :, None, None] * state + step
        rows.append((state * c[:, t, :, None]).sum(-1))
    skip = layer.D.view(layer.nheads, -1)
    y = (torch.stack(rows, 1) + skip * x).flatten(2)
    y = layer.norm(y, z) if layer.rmsnorm else y * F.silu(z)
    return layer.out_proj(torch.cat((F.silu(gate) * linear, y), -1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ngroups": 2},
        {"rmsnorm": False},
        {"D_has_hdim": True},
        {"norm_before_gate": True},
        {"d_ssm": 16},
        {"dt_limit": (0.01, 0.05)},
        {"bias": True, "conv_bias": False},
    ],
    ids=str,
)
def test_mamba2_against_its_definition(options: dict[str, Any]) -> None:
    layer = Mamba2(16, d_state=8, headdim=8, **options).double()
    with torch.no_grad():
        layer.D += torch.randn_like(layer.D)
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x), one_step_at_a_time(layer, x))


def test_simple_mamba2_is_mamba2() -> None:
    simple = Mamba2Simple(16, d_state=8, headdim=8)
    layer = same_weights(simple, Mamba2(16, d_state=8, headdim=8))
    x = torch.randn(2, 9, 16)
    assert torch.equal(simple(x), layer(x))


def test_gated_norm_in_groups() -> None:
    norm = RMSNormGated(6, group_size=3, norm_before_gate=False)
    x, z = torch.randn(2, 6), torch.randn(2, 6)
    gated = (x * F.silu(z)).view(2, 2, 3)
    expected = gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, z), expected.view(2, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mamba(8, bimamba_type="v4"), "known: none, v1, v2, v3"),
        (lambda: Mamba(8, bimamba_type="v3"), "needs nslices"),
        (lambda: Mamba(8, init_layer_scale=0.1), "init_layer_scale"),
        (lambda: Mamba(8, bimamba_type="v2", use_fast_path=False), "scan in one direction"),
        (lambda: Mamba(8, dt_init="ones"), "expected random or constant"),
        (lambda: Mamba(8)(torch.zeros(1, 2, 8), inference_params=1), "token by token"),
        (lambda: Mamba2(16, headdim=8, process_group=1), "process_group"),
        (lambda: Mamba2(16, headdim=8)(torch.zeros(1, 2, 16), seq_idx=1), "whole sequences"),
        (lambda: Mamba2Simple(16, learnable_init_states=True), "learnable_init_states"),
        (lambda: Mamba2Simple(16, activation="relu"), "expected silu or swish"),
    ],
)
def test_what_is_not_honoured_raises(make: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        make()


def test_stand_in_is_found_and_gone_again() -> None:
    with stand_in():
        import causal_conv1d  # type: ignore[import-not-found]
        from mamba_ssm import Mamba as Found
        from mamba_ssm.modules.mamba2_simple import Mamba2Simple as FoundSimple
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
        from mamba_ssm.ops.triton.layer_norm import RMSNorm
    assert (Found, FoundSimple) == (Mamba, Mamba2Simple)
    assert callable(selective_scan_fn)
    assert causal_conv1d.causal_conv1d_fn.__module__ == "segmaformer.mamba.functional"
    with pytest.raises(NotImplementedError, match="causal_conv1d_update"):
        causal_conv1d.causal_conv1d_update()
    x = torch.randn(2, 8)
    torch.testing.assert_close(RMSNorm(8)(x), F.rms_norm(x, (8,), eps=1e-5))
    assert not any(name.startswith(("mamba_ssm", "causal_conv1d")) for name in sys.modules)


def test_stand_in_gives_back_what_was_imported() -> None:
    class Installed:
        pass

    module: Any = Installed()
    sys.modules["mamba_ssm"] = module
    try:
        with stand_in():
            assert sys.modules["mamba_ssm"] is not module
        assert sys.modules["mamba_ssm"] is module
    finally:
        del sys.modules["mamba_ssm"]


def as_real(own: Any, *absent: str, **others: Any) -> Any:
    """Make a layer of the real package's class, with the parameters of one of the project's.

    `absent` are attributes that the real one does not have, `others` such as only it has.
    """
    kind = {
        Mamba: "modules.mamba_simple.Mamba",
        Mamba2: "modules.mamba2.Mamba2",
        Mamba2Simple: "modules.mamba2_simple.Mamba2Simple",
        RMSNormGated: "ops.triton.layernorm_gated.RMSNorm",
    }[type(own)]
    place, _, title = f"mamba_ssm.{kind}".rpartition(".")
    layer = type(title, (torch.nn.Module,), {"__module__": place})()
    layer.__dict__.update({key: value for key, value in vars(own).items() if key not in absent})
    for key, value in others.items():
        setattr(layer, key, value)
    return layer


FORKS = ("bimamba_type", "nslices", "if_divide_out")
CHOICES = ("d_ssm", "rmsnorm", "D_has_hdim", "norm_before_gate")


@pytest.mark.parametrize(
    ("make", "absent"),
    [
        (lambda: Mamba(20), FORKS),
        (lambda: Mamba(20, bimamba_type="v1"), ("nslices",)),
        (lambda: Mamba(20, bimamba_type="v2", if_divide_out=True), ("nslices",)),
        (lambda: Mamba(20, bimamba_type="v3", nslices=4), ("if_divide_out",)),
        (lambda: Mamba2(20, headdim=10, ngroups=2, D_has_hdim=True), ()),
        (lambda: Mamba2(20, headdim=10, d_ssm=20, norm_before_gate=True), ()),
        (lambda: Mamba2Simple(20, headdim=10, ngroups=2), CHOICES),
        (lambda: Mamba2Simple(20, headdim=10, ngroups=2, use_mem_eff_path=False), CHOICES),
        (lambda: RMSNormGated(20), ()),
    ],
)
def test_live_layers_are_converted_in_place(make: Any, absent: tuple[str, ...]) -> None:
    own = make()
    layer = as_real(own, *absent)
    if isinstance(own, Mamba2Simple):
        layer.norm = as_real(RMSNormGated(40, norm_before_gate=False))
    network = torch.nn.Sequential(torch.nn.Linear(20, 20), layer)
    assert convert(network) == (2 if isinstance(own, Mamba2Simple) else 1)
    assert convert(network) == 0
    x = tokens()
    assert network[1] is layer
    torch.testing.assert_close(layer(x), own(x))


def parameter(*shape: int) -> Any:
    return torch.nn.Parameter(torch.ones(shape))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: Mamba(20), {"gamma": parameter(20)}, "layer '1' has gamma, which"),
        (lambda: Mamba(20, bimamba_type="v2"), {"bimamba_type": "none"}, "has A_b_log, D_b, conv"),
        (lambda: Mamba(20), {"bimamba_type": "v4"}, "known: none, v1, v2, v3"),
        (lambda: Mamba(20, bimamba_type="v2"), {"use_fast_path": False}, "scan in one direction"),
        (lambda: Mamba2Simple(20, headdim=10), {"init_states": parameter(4)}, "has init_states"),
        (lambda: Mamba2Simple(20, headdim=10), {"activation": "relu"}, "silu or swish"),
        (lambda: Mamba2(20, headdim=10), {"process_group": 1}, "process_group"),
        (lambda: RMSNormGated(20), {"bias": parameter(20)}, "has bias, which"),
    ],
)
def test_live_layers_that_are_not_honoured(
    make: Any, options: dict[str, Any], message: str
) -> None:
    network = torch.nn.Sequential(as_real(Mamba(20)), as_real(make(), **options))
    kinds = [type(each) for each in network]
    with pytest.raises(NotImplementedError, match=message):
        convert(network)
    assert [type(each) for each in network] == kinds


@pytest.mark.parametrize("options", [{"headdim": 7}, {"headdim": 10, "ngroups": 3}])
def test_heads_and_groups_share_the_channels(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="40 channels cannot be shared by heads of"):
        Mamba2(20, **options)


def test_steps_start_as_asked() -> None:
    layer = Mamba(32, dt_min=0.5, dt_max=0.6, dt_init="constant", dt_scale=3.0)
    steps = F.softplus(layer.dt_proj.bias.detach())
    assert 0.499 < float(steps.min()) <= float(steps.max()) < 0.601
    torch.testing.assert_close(layer.dt_proj.weight, torch.full((64, 2), 3.0 * 2**-0.5))
