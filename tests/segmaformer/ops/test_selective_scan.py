from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.ops import library as scan_library
from segmaformer.ops import selective_scan
from segmaformer.ops.reference import selective_scan_reference

Tensors = dict[str, Any]

OPTIONAL = ("D", "z", "delta_bias")
ALONG_SEQUENCE = ("u", "delta", "B", "C", "z")
SUBSETS = [
    tuple(itertools.compress(OPTIONAL, given)) for given in itertools.product((0, 1), repeat=3)
]
GOLDENS = (
    *("bare", "edge_delta", "grouped_bc", "large_delta", "len1", "long_l2049", "n16_full"),
    *("n1_full", "n256", "n4_b2_d20", "n64", "n8_d72_init", "no_D", "no_bias", "no_softplus"),
    *("no_z", "tiny_delta"),
)


def make_tensors(
    batch: int = 2,
    length: int = 11,
    channels: int = 6,
    states: int = 4,
    *,
    optional: tuple[str, ...] = OPTIONAL,
    dtype: Any = None,
    seed: int = 0,
) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "u": (batch, length, channels),
        "delta": (batch, length, channels),
        "A": (channels, states),
        "B": (batch, length, states),
        "C": (batch, length, states),
        "D": (channels,),
        "z": (batch, length, channels),
        "delta_bias": (channels,),
    }
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
        if name not in OPTIONAL or name in optional
    }
    tensors["A"] = -tensors["A"].exp()
    return {name: tensor.to(dtype or torch.float32) for name, tensor in tensors.items()}


def in_float64(tensors: Tensors, **flags: bool) -> Any:
    return selective_scan_reference(**{k: t.double() for k, t in tensors.items()}, **flags)


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    assert found.shape == expected.shape
    scale = max(1e-3, float(expected.abs().max()))
    assert float((found.double() - expected).abs().max()) <= tolerance * scale


def run_golden(golden: Any, scan: Callable[..., Any], dtype: Any) -> Any:
    """Put channels-first inputs with groups of B and C through a token-major scan."""
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    tensors = {n: torch.from_numpy(golden[n]).to(dtype) for n in names if n in golden.files}
    b, c = (t if t.dim() == 4 else t[:, None] for t in (tensors.pop("B"), tensors.pop("C")))
    width = len(tensors["A"]) // b.shape[1]
    outputs = []
    for group in range(b.shape[1]):
        part = slice(group * width, (group + 1) * width)
        inputs = {
            name: t[:, part].transpose(1, 2) if t.dim() == 3 else t[part]
            for name, t in tensors.items()
        }
        inputs |= {"B": b[:, group].transpose(1, 2), "C": c[:, group].transpose(1, 2)}
        softplus = "delta_softplus" in golden.files and bool(golden["delta_softplus"])
        outputs.append(scan(**inputs, delta_softplus=softplus).transpose(1, 2))
    return torch.cat(outputs, dim=1).numpy()


@pytest.mark.parametrize("name", GOLDENS)
def test_published_outputs_in_float32(golden_dir: Path, name: str) -> None:
    golden = np.load(golden_dir / f"scan_{name}.npz")
    found = run_golden(golden, selective_scan, torch.float32)
    assert np.abs(found - golden["out"]).max() <= 4 * float(golden["noise"])


@pytest.mark.parametrize("name", GOLDENS)
def test_published_outputs_in_float64(golden_dir: Path, name: str) -> None:
    golden = np.load(golden_dir / f"scan_{name}.npz")
    found = run_golden(golden, selective_scan, torch.float64)
    assert np.abs(found - golden["out"]).max() <= 1e-11 * np.abs(golden["out"]).max()


def test_every_golden_is_listed(golden_dir: Path) -> None:
    assert {f"scan_{name}.npz" for name in GOLDENS} == {
        path.name for path in golden_dir.glob("scan_*.npz")
    }


@settings(max_examples=40)
@given(
    batch=st.integers(1, 3),
    length=st.integers(0, 70),
    channels=st.integers(1, 40),
    states=st.integers(1, 40),
    optional=st.sampled_from(SUBSETS),
    reverse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_native_kernel_against_float64(
    batch: int,
    length: int,
    channels: int,
    states: int,
    optional: tuple[str, ...],
    reverse: bool,
    seed: int,
) -> None:
    tensors = make_tensors(batch, length, channels, states, optional=optional, seed=seed)
    flags = {"delta_softplus": True, "reverse": reverse}
    if length == 0:
        assert selective_scan(**tensors, **flags).shape == (batch, 0, channels)
        return
    assert_close(selective_scan(**tensors, **flags), in_float64(tensors, **flags), 2e-5)


@pytest.mark.parametrize(("dtype", "rounding"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_half_precision(dtype: str, rounding: float) -> None:
    tensors = make_tensors(dtype=getattr(torch, dtype))
    y = selective_scan(**tensors, delta_softplus=True)
    assert y.dtype == getattr(torch, dtype)
    assert_close(y, in_float64(tensors, delta_softplus=True), rounding)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reverse_is_the_flipped_scan(dtype: str) -> None:
    tensors = make_tensors(dtype=getattr(torch, dtype))
    flipped = {n: t.flip(1) if n in ALONG_SEQUENCE else t for n, t in tensors.items()}
    found = selective_scan(**tensors, delta_softplus=True, reverse=True)
    expected = selective_scan(**flipped, delta_softplus=True).flip(1)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_reference_stops_softplus_at_twenty() -> None:
    tensors = make_tensors(1, 1, 1, 1, optional=(), dtype=torch.float64)
    tensors |= {"u": torch.ones(1, 1, 1).double(), "delta": torch.full((1, 1, 1), 20.5).double()}
    y = selective_scan_reference(**tensors, delta_softplus=True)
    assert float(y) == float(20.5 * tensors["B"] * tensors["C"])


def test_inputs_need_not_be_contiguous() -> None:
    tensors = make_tensors()
    strided = {
        n: t.transpose(-1, -2).contiguous().transpose(-1, -2) if t.dim() > 1 else t
        for n, t in tensors.items()
    }
    assert not strided["u"].is_contiguous()
    assert torch.equal(selective_scan(**strided), selective_scan(**tensors))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("delta", (2, 11, 5)),
        ("A", (5, 4)),
        ("B", (2, 10, 4)),
        ("C", (1, 11, 4)),
        ("D", (1, 6)),
        ("z", (2, 6, 11)),
        ("delta_bias", (5,)),
    ],
)
def test_shapes_that_do_not_fit(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{name} has shape"):
        selective_scan(**make_tensors() | {name: torch.zeros(shape)})


@pytest.mark.parametrize(("name", "shape"), [("u", (11, 6)), ("A", (6,))])
def test_ranks_that_do_not_fit(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        selective_scan(**make_tensors() | {name: torch.zeros(shape)})


@pytest.mark.parametrize("states", [0, 257])
def test_number_of_states(states: int) -> None:
    with pytest.raises(ValueError, match=f"A has {states} states; 1 to 256 are supported"):
        selective_scan(**make_tensors(states=states))


@pytest.mark.parametrize(
    ("optional", "dtype"), [((), "float32"), (OPTIONAL, "float32"), (OPTIONAL, "float64")]
)
def test_registration(optional: tuple[str, ...], dtype: str) -> None:
    """Schema, fake tensor, autograd and compile-time behaviour, as PyTorch itself checks them."""
    tensors = make_tensors(optional=optional, dtype=getattr(torch, dtype))
    for name in ("u", "B", "A"):
        tensors[name].requires_grad_()
    names = ("u", "delta", "A", "B", "C", *OPTIONAL)
    torch.library.opcheck(
        scan_library.scan_op, (*(tensors.get(n) for n in names), True, bool(optional))
    )


class ScanModule(torch.nn.Module):
    def forward(self, u: Any, delta: Any, A: Any, B: Any, C: Any) -> Any:
        return selective_scan(u, delta, A, B, C, delta_softplus=True)


def test_export_keeps_one_operator() -> None:
    arguments = tuple(make_tensors(optional=()).values())
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        ScanModule(), arguments, dynamic_shapes=(batch, batch, None, batch, batch)
    )
    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert [t for t in targets if "segmaformer" in t] == ["segmaformer.selective_scan.default"]
    assert len([t for t in targets if "sym" not in t and "assert" not in t]) == 1
    larger = tuple(make_tensors(5, optional=()).values())
    assert torch.equal(program.module()(*larger), ScanModule()(*larger))


def test_shape_without_data() -> None:
    tensors = {name: tensor.to("meta") for name, tensor in make_tensors().items()}
    assert selective_scan(**tensors).shape == (2, 11, 6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("optional", [(), OPTIONAL], ids=["bare", "full"])
def test_layout_of_the_channels_first_kernel(optional: tuple[str, ...], reverse: bool) -> None:
    """mamba-ssm's kernel wants channels first and runs forward only."""

    def fused(*arguments: Any) -> Any:
        *arrays, softplus = arguments
        assert all(t is None or t.is_contiguous() for t in arrays)
        swapped = [t.transpose(1, 2) if t is not None and t.dim() == 3 else t for t in arrays]
        return selective_scan_reference(*swapped, delta_softplus=softplus).transpose(1, 2)

    tensors = make_tensors(optional=optional)
    arguments = [tensors.get(name) for name in ("u", "delta", "A", "B", "C", *OPTIONAL)]
    found = scan_library._on_cuda(fused, *arguments, True, reverse)
    expected = selective_scan_reference(*arguments, delta_softplus=True, reverse=reverse)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()


def test_mamba_ssm_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    scan_library._mamba_ssm_scan.cache_clear()
    assert scan_library._mamba_ssm_scan() is None
    scan_library._mamba_ssm_scan.cache_clear()
