"""The C function against PyTorch's gradient in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support.scans.scan_cases import OPTIONAL, Arrays, make_inputs, scan_args

from segmaformer.runtime.bindings.kernel_structs import (
    FLOAT16,
    SelectiveScanArgs,
    SelectiveScanGradientArgs,
)
from segmaformer.runtime.bindings.op_library import cpu_isas, run_selective_scan_gradient

NAMES = ("u", "delta", "A", "B", "C", *OPTIONAL)
STATES = (1, 3, 4, 8, 16, 20, 256)
CHANNELS = (5, 16, 17, 72)
LENGTHS = (1, 31, 32, 33, 300)
FLAGS = list(itertools.product((False, True), repeat=5))
NOISE = 1e-5
"""Rounding of float32 in sums over 300 tokens and 256 states, of a tensor's largest gradient: it is
smaller than what was added up."""


def incoming(inputs: Arrays) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(inputs["u"].shape).astype(np.float32)


def gradients(
    inputs: Arrays,
    *,
    softplus: bool = True,
    reverse: bool = False,
    threads: int = 1,
    isa: str | None = None,
) -> Arrays:
    """Run the C function; what it does not write stays 77."""
    grad_y, found = incoming(inputs), {n: np.full_like(v, 77) for n, v in inputs.items()}
    scan = scan_args(inputs, softplus=softplus, reverse=reverse)
    targets = {f"grad_{name}": values.ctypes.data for name, values in found.items()}
    args = SelectiveScanGradientArgs(scan=scan, grad_y=grad_y.ctypes.data, **targets)
    run_selective_scan_gradient(args, threads=threads, isa=isa)
    return found


def expected(inputs: Arrays, *, softplus: bool = True, reverse: bool = False) -> Arrays:
    """Differentiate in float64; a reversed scan is that of reversed sequences."""
    torch = pytest.importorskip("torch")
    from segmaformer.ops.gradient import selective_scan_backward

    def turned(values: np.ndarray) -> np.ndarray:
        return values[:, ::-1] if reverse and values.ndim == 3 else values

    tensors: list[Any] = [
        torch.from_numpy(turned(inputs[name]).astype(np.float64)) if name in inputs else None
        for name in NAMES
    ]
    grad_y = torch.from_numpy(turned(incoming(inputs)).astype(np.float64))
    found = selective_scan_backward(grad_y, *tensors, delta_softplus=softplus)
    return {
        name: turned(gradient.numpy())
        for name, gradient in zip(NAMES, found, strict=True)
        if name in inputs and gradient is not None
    }


def assert_close(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, exact in wanted.items():
        error = np.abs(found[name] - exact).max() / max(np.abs(exact).max(), 1e-30)
        assert error <= NOISE, f"{name}: {error:.1e}"


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("states", STATES)
def test_shapes_threads_and_instruction_sets(states: int, channels: int) -> None:
    for length in LENGTHS:
        flags = FLAGS[(STATES.index(states) * 7 + LENGTHS.index(length) * 3 + channels) % 32]
        softplus, reverse = flags[:2]
        optional = tuple(itertools.compress(OPTIONAL, flags[2:]))
        inputs = make_inputs(length, channels, states, optional=optional, softplus=softplus)
        exact = expected(inputs, softplus=softplus, reverse=reverse)
        for isa, threads in itertools.product(cpu_isas(), (1, 7)):
            found = gradients(inputs, softplus=softplus, reverse=reverse, threads=threads, isa=isa)
            assert_close(found, exact)


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_batches_over_threads(threads: int, isa: str) -> None:
    """Enough work for seven threads, of fewer or more batch entries, and the same each time."""
    inputs = make_inputs(700, 72, 16, optional=OPTIONAL, batch=3)
    found = gradients(inputs, threads=threads, isa=isa)
    assert_close(found, expected(inputs))
    again = gradients(inputs, threads=threads, isa=isa)
    for name, values in found.items():
        np.testing.assert_array_equal(values, again[name])


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("exponent", [-200.0, -126.5, -1e-6, 0.0, 3.0])
def test_decay_of_any_size(isa: str, exponent: float) -> None:
    """exp(d A) from zero through denormal numbers to large ones."""
    inputs = make_inputs(4, 3, 2, optional=("z",))
    inputs["delta"] = np.ones_like(inputs["delta"])
    inputs["A"] = np.full_like(inputs["A"], exponent)
    assert_close(gradients(inputs, softplus=False, isa=isa), expected(inputs, softplus=False))


@pytest.mark.parametrize("isa", cpu_isas())
def test_softplus_and_gate_in_their_tails(isa: str) -> None:
    inputs = make_inputs(41, 1, 1, optional=("z",))
    inputs["delta"] = np.linspace(-100, 100, 41, dtype=np.float32).reshape(1, 41, 1)
    inputs["z"] = inputs["delta"][:, ::-1].copy()
    inputs["A"][:] = -1.0
    assert_close(gradients(inputs, isa=isa), expected(inputs))


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "z"])
def test_nan_spreads(name: str, isa: str) -> None:
    inputs = make_inputs(40, 20, 5, optional=OPTIONAL)
    inputs[name].flat[-1] = np.nan
    found = gradients(inputs, isa=isa)
    for gradient, exact in expected(inputs).items():
        spread = np.isnan(exact)
        assert np.isnan(found[gradient][spread]).all()
        if name != "A":  # the first decay meets no state: zero times NaN here, left out there
            assert np.isfinite(found[gradient][~spread]).all()


def test_without_tokens_parameters_have_no_gradient() -> None:
    inputs = make_inputs(0, 3, 2, optional=OPTIONAL)
    found = gradients(inputs)
    assert all((found[name] == 0).all() for name in ("A", "D", "delta_bias"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad_A": 0}, "may not be NULL"),
        ({"grad_y": 0}, "may not be NULL"),
        ({"grad_z": 0}, "D, z and delta_bias have a gradient where they are given"),
        ({"element_type": FLOAT16}, "float32 alone"),
        ({"states": 257}, "between 1 and 256"),
        ({"isa": "vax"}, "lacks the instruction set"),
    ],
)
def test_arguments_that_are_refused(changes: dict[str, Any], message: str) -> None:
    inputs = make_inputs(3, 2, 1, optional=OPTIONAL)
    fields = {name: values.ctypes.data for name, values in inputs.items()}
    sizes = {"batch": 1, "length": 3, "channels": 2, "states": 1}
    given = {f"grad_{name}": values.ctypes.data for name, values in inputs.items()}
    given |= {"grad_y": inputs["u"].ctypes.data}
    scan_changes = {key: changes[key] for key in ("element_type", "states") if key in changes}
    own_changes = {key: value for key, value in changes.items() if key.startswith("grad_")}
    args = SelectiveScanGradientArgs(
        scan=SelectiveScanArgs(**fields | sizes | scan_changes), **given | own_changes
    )
    with pytest.raises(ValueError, match=message):
        run_selective_scan_gradient(args, isa=changes.get("isa"))
