"""Laws between the scan and its gradient that need no other implementation.

With everything else held, y is linear in u and in C, so their gradients are its adjoints: the inner
product of an incoming gradient with the scan of v is that of the gradient with v.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scans.scan_cases import OPTIONAL, Arrays, make_inputs, scan_args

from segmaformer.runtime.bindings.kernel_structs import SelectiveScanGradientArgs
from segmaformer.runtime.bindings.op_library import (
    cpu_isas,
    run_selective_scan,
    run_selective_scan_gradient,
)

NOISE = 2e-5
"""Rounding of float32 in sums over a sequence, as a part of the largest gradient."""

brief = settings(max_examples=25, deadline=None)
runs = st.fixed_dictionaries(
    {
        "softplus": st.booleans(),
        "reverse": st.booleans(),
        "threads": st.integers(1, 5),
        "isa": st.sampled_from(cpu_isas()),
    }
)


@st.composite
def inputs_of_a_scan(draw: st.DrawFn) -> Arrays:
    """Draw a scan of odd sizes, with any of the optional inputs."""
    return make_inputs(
        draw(st.integers(1, 150)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 20)),
        optional=tuple(name for name in OPTIONAL if draw(st.booleans())),
        softplus=False,  # steps that are positive as they are, and so for either choice
        batch=draw(st.integers(1, 3)),
    )


def scan(inputs: Arrays, *, softplus: bool, reverse: bool, threads: int, isa: str) -> np.ndarray:
    y = np.empty_like(inputs["u"])
    args = scan_args({**inputs, "y": y}, softplus=softplus, reverse=reverse)
    run_selective_scan(args, threads=threads, isa=isa)
    return y


def gradients(
    inputs: Arrays, grad_y: np.ndarray, *, softplus: bool, reverse: bool, threads: int, isa: str
) -> Arrays:
    found = {name: np.full_like(values, np.nan) for name, values in inputs.items()}
    args = SelectiveScanGradientArgs(
        scan=scan_args(inputs, softplus=softplus, reverse=reverse),
        grad_y=grad_y.ctypes.data,
        **{f"grad_{name}": values.ctypes.data for name, values in found.items()},
    )
    run_selective_scan_gradient(args, threads=threads, isa=isa)
    return found


def normal(like: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(like.shape).astype(np.float32)


@brief
@given(inputs=inputs_of_a_scan(), run=runs, name=st.sampled_from(["u", "C"]))
def test_the_gradient_is_the_adjoint(inputs: Arrays, run: dict[str, Any], name: str) -> None:
    if name == "C":
        inputs.pop("D", None)  # its term has no C, so y would not be linear in it
    incoming, direction = normal(inputs["u"], 1), normal(inputs[name], 2)
    gradient = gradients(inputs, incoming, **run)[name]
    along = scan({**inputs, name: direction}, **run)
    terms = incoming.astype(np.float64) * along
    size = float(np.abs(terms).sum())
    assert abs(np.vdot(gradient.astype(np.float64), direction) - terms.sum()) <= NOISE * size


@brief
@given(inputs=inputs_of_a_scan(), run=runs, factor=st.floats(-4, 4))
def test_gradients_are_linear_in_the_incoming_one(
    inputs: Arrays, run: dict[str, Any], factor: float
) -> None:
    first, second = normal(inputs["u"], 1), normal(inputs["u"], 2)
    of_first, of_second, of_sum = (
        gradients(inputs, incoming, **run)
        for incoming in (first, second, first + np.float32(factor) * second)
    )
    for name, found in of_sum.items():
        parts = of_first[name], np.float32(factor) * of_second[name]
        noise = NOISE * float(sum(np.abs(part).max() for part in parts))
        np.testing.assert_allclose(found, sum(parts), rtol=0, atol=noise, err_msg=name)


@brief
@given(inputs=inputs_of_a_scan(), run=runs)
def test_parameters_sum_over_the_batch_and_sequences_do_not(
    inputs: Arrays, run: dict[str, Any]
) -> None:
    incoming = normal(inputs["u"], 1)
    together = gradients(inputs, incoming, **run)
    entries = [
        gradients(
            {k: v[entry : entry + 1].copy() if v.ndim == 3 else v for k, v in inputs.items()},
            incoming[entry : entry + 1].copy(),
            **run,
        )
        for entry in range(len(incoming))
    ]
    for name, found in together.items():
        apart = [each[name] for each in entries]
        whole = np.concatenate(apart) if found.ndim == 3 else np.sum(apart, axis=0)
        noise = NOISE * float(np.abs(apart).max())
        np.testing.assert_allclose(found, whole, rtol=0, atol=noise, err_msg=name)


@pytest.mark.parametrize("isa", cpu_isas())
def test_gradients_repeat_bit_for_bit(isa: str) -> None:
    inputs = make_inputs(151, 33, 7, optional=OPTIONAL, batch=2)
    run: dict[str, Any] = {"softplus": True, "reverse": True, "threads": 4, "isa": isa}
    first, again = (gradients(inputs, normal(inputs["u"], 3), **run) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
