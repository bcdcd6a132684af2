"""The C function against the definition, evaluated step by step in float64."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.scans.scan_cases import (
    OPTIONAL,
    ROUNDING,
    Arrays,
    assert_close,
    make_inputs,
    reference,
    run_scan,
)

from segmaformer.runtime.bindings.kernel_structs import BFLOAT16, FLOAT16, SelectiveScanArgs
from segmaformer.runtime.bindings.op_library import cpu_isas, run_selective_scan

STATES = (1, 3, 4, 8, 16, 20, 64, 256)
CHANNELS = (1, 5, 16, 17, 72)
LENGTHS = (1, 2, 31, 33, 1000)
FLAGS = list(itertools.product((False, True), repeat=5))


def scan(inputs: Arrays, *, threads: int = 1, isa: str | None = None, **options: Any) -> np.ndarray:
    return run_scan(partial(run_selective_scan, threads=threads, isa=isa), inputs, **options)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("states", STATES)
def test_shapes_types_threads_and_instruction_sets(states: int, channels: int) -> None:
    for length in LENGTHS:
        flags = FLAGS[(STATES.index(states) * 7 + LENGTHS.index(length) * 3 + channels) % 32]
        softplus, reverse = flags[:2]
        optional = tuple(itertools.compress(OPTIONAL, flags[2:]))
        inputs = make_inputs(length, channels, states, optional=optional, softplus=softplus)
        expected = reference(inputs, softplus=softplus, reverse=reverse)
        for isa, threads, element_type in itertools.product(cpu_isas(), (1, 2, 7), ROUNDING):
            found = scan(
                inputs,
                softplus=softplus,
                reverse=reverse,
                element_type=element_type,
                threads=threads,
                isa=isa,
            )
            assert_close(found, expected, element_type)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("isa", cpu_isas())
def test_every_combination_of_options(isa: str, flags: tuple[bool, ...]) -> None:
    softplus, reverse = flags[:2]
    optional = tuple(itertools.compress(OPTIONAL, flags[2:]))
    inputs = make_inputs(37, 20, 5, optional=optional, softplus=softplus)
    expected = reference(inputs, softplus=softplus, reverse=reverse)
    found = scan(inputs, softplus=softplus, reverse=reverse, isa=isa)
    assert_close(found, expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("batch", [1, 3])
def test_sequence_cut_into_chunks(batch: int, isa: str, reverse: bool) -> None:
    """Few channels and a long sequence: the plan cuts the sequence for seven threads."""
    inputs = make_inputs(5001, 9, 48, optional=OPTIONAL, batch=batch)
    expected = reference(inputs, softplus=True, reverse=reverse)
    for threads in (2, 3, 7):
        found = scan(inputs, softplus=True, reverse=reverse, threads=threads, isa=isa)
        assert_close(found, expected)


@pytest.mark.parametrize("isa", cpu_isas())
def test_batch_entries_do_not_mix(isa: str) -> None:
    inputs = make_inputs(40, 33, 6, optional=OPTIONAL, batch=4)
    found = scan(inputs, softplus=True, threads=2, isa=isa)
    for entry in range(4):
        alone = {
            name: values[entry : entry + 1] if values.ndim == 3 else values
            for name, values in inputs.items()
        }
        np.testing.assert_array_equal(found[entry : entry + 1], scan(alone, softplus=True, isa=isa))


@pytest.mark.parametrize("isa", cpu_isas())
def test_reverse_is_the_flipped_scan_of_flipped_inputs(isa: str) -> None:
    inputs = make_inputs(100, 19, 4, optional=OPTIONAL)
    flipped = {
        name: values[:, ::-1] if values.ndim == 3 else values for name, values in inputs.items()
    }
    np.testing.assert_array_equal(
        scan(inputs, softplus=True, reverse=True, isa=isa),
        scan(flipped, softplus=True, isa=isa)[:, ::-1],
    )


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("exponent", [-200.0, -126.5, -90.0, -1e-6, 0.0, 60.0])
def test_decay_of_any_size(isa: str, exponent: float) -> None:
    """exp(d A) from zero through denormal numbers to large ones."""
    inputs = make_inputs(2, 3, 1)
    inputs["delta"] = np.ones_like(inputs["delta"])
    inputs["A"] = np.full_like(inputs["A"], exponent)
    found = scan(inputs, isa=isa)
    np.testing.assert_allclose(found, reference(inputs)[0], rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize("isa", cpu_isas())
def test_softplus_and_gate_in_their_tails(isa: str) -> None:
    inputs = make_inputs(41, 1, 1, optional=("z",))
    inputs["delta"] = np.linspace(-100, 100, 41, dtype=np.float32).reshape(1, 41, 1)
    inputs["z"] = inputs["delta"][:, ::-1].copy()
    inputs["A"][:] = -1.0
    expected, _ = reference(inputs, softplus=True)
    np.testing.assert_allclose(
        scan(inputs, softplus=True, isa=isa), expected, rtol=6e-6, atol=1e-32
    )


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC001FF, 0xFFC00001])
def test_nan_stays_nan(isa: str, name: str, bits: int) -> None:
    inputs = make_inputs(20, 18, 5, optional=OPTIONAL)
    inputs[name].view(np.uint32).flat[0] = bits
    found = scan(inputs, softplus=True, isa=isa)
    assert np.isnan(found[0, 0, 0])
    untouched = [0, 0, 1] if name not in ("B", "C") else [0, 19, 1]
    if name != "B":  # B reaches every channel and every later token
        assert np.isfinite(found[tuple(untouched)])


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("element_type", ROUNDING)
def test_overflow_gives_infinity(isa: str, element_type: int) -> None:
    inputs = make_inputs(8, 17, 4)
    inputs["A"] = np.full_like(inputs["A"], 40.0)  # grows by e^40 with every step
    for name in ("u", "delta", "B", "C"):
        inputs[name] = np.ones_like(inputs[name])
    found = scan(inputs, element_type=element_type, isa=isa)
    assert np.isposinf(found[:, 3:]).all()
    assert np.isfinite(found[:, 0]).all()


@pytest.mark.parametrize("isa", cpu_isas())
def test_rounding_of_stored_results(isa: str) -> None:
    """One token, one state, C = 1: y is u, so what comes out is the conversion alone."""
    values = np.array(
        [0.0, -0.0, 1.0, 1 + 2**-11, 1 + 3 * 2**-11, 65504, 65519.99, 65520, 6e-8, 2.9e-8, -6.1e-5],
        np.float32,
    )
    inputs = {
        "u": np.zeros((1, 1, values.size), np.float32),
        "delta": np.ones((1, 1, values.size), np.float32),
        "A": np.zeros((values.size, 1), np.float32),
        "B": np.ones((1, 1, 1), np.float32),
        "C": np.ones((1, 1, 1), np.float32),
        "D": values,
    }
    inputs["u"][:] = 1.0
    inputs["B"][:] = 0.0
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(scan(inputs, element_type=FLOAT16, isa=isa)[0, 0], expected)
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)).astype(np.uint32) & 0xFFFF0000
    np.testing.assert_array_equal(
        scan(inputs, element_type=BFLOAT16, isa=isa)[0, 0], rounded.view(np.float32)
    )


@pytest.mark.parametrize("empty", ["batch", "length", "channels"])
def test_nothing_to_do(empty: str) -> None:
    sizes = {"batch": 2, "length": 3, "channels": 4, empty: 0}
    run_selective_scan(SelectiveScanArgs(states=4, **sizes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": 0}, "between 1 and 256"),
        ({"states": 257}, "between 1 and 256"),
        ({"element_type": 3}, "element_type"),
        ({"element_type": -1}, "element_type"),
        ({"length": -1}, "negative"),
        ({"u": None}, "NULL"),
        ({"y": None}, "NULL"),
    ],
)
def test_refuses_wrong_arguments(change: dict[str, Any], message: str) -> None:
    inputs = make_inputs(4, 3, 2)
    fields: dict[str, Any] = {name: values.ctypes.data for name, values in inputs.items()}
    y = np.zeros_like(inputs["u"])
    fields |= {"batch": 1, "length": 4, "channels": 3, "states": 2, "y": y.ctypes.data}
    with pytest.raises(ValueError, match=message):
        run_selective_scan(SelectiveScanArgs(**(fields | change)))


def test_refuses_an_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match="instruction set"):
        scan(make_inputs(4, 3, 2), isa="mmx")
