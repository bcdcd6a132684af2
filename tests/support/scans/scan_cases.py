"""Inputs of selective scans, their results in float64, and bounds of rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segmaformer.runtime.bindings.kernel_structs import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    SelectiveScanArgs,
)

Arrays = dict[str, np.ndarray]

OPTIONAL = ("D", "z", "delta_bias")

# Half a unit in the last place of the element type, and what float32 arithmetic adds.
ROUNDING = {FLOAT32: 0.0, FLOAT16: 2.0**-11, BFLOAT16: 2.0**-8}
FLOAT32_NOISE = 2e-6


def to_element(values: np.ndarray, element_type: int) -> np.ndarray:
    if element_type == FLOAT16:
        return values.astype(np.float16)
    if element_type == BFLOAT16:  # exact for values that bfloat16 can hold
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values


def from_element(stored: np.ndarray, element_type: int) -> np.ndarray:
    if element_type == BFLOAT16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def make_inputs(
    length: int,
    channels: int,
    states: int,
    *,
    optional: tuple[str, ...] = (),
    softplus: bool = True,
    batch: int = 1,
) -> Arrays:
    """Draw float32 arrays whose values float16 and bfloat16 hold exactly."""
    rng = np.random.default_rng([batch, length, channels, states])
    shapes = {
        "u": (batch, length, channels),
        "delta": (batch, length, channels),
        "B": (batch, length, states),
        "C": (batch, length, states),
        "z": (batch, length, channels),
        "D": (channels,),
        "delta_bias": (channels,),
    }
    drawn = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    drawn["delta"] = drawn["delta"] * 0.5
    drawn["A"] = -rng.uniform(0.02, 4.0, (channels, states))
    if not softplus:  # a negative step would make the state grow without bound
        drawn |= {name: np.abs(drawn[name]) for name in ("delta", "delta_bias")}
    return {
        name: (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        for name, values in drawn.items()
        if name not in OPTIONAL or name in optional
    }


def scan_args(arrays: Arrays, *, softplus: bool, reverse: bool) -> SelectiveScanArgs:
    """Describe inputs that the caller keeps alive, but for the element type and the result."""
    batch, length, channels = arrays["u"].shape
    return SelectiveScanArgs(
        delta_softplus=softplus,
        reverse=reverse,
        batch=batch,
        length=length,
        channels=channels,
        states=arrays["A"].shape[1],
        **{name: values.ctypes.data for name, values in arrays.items()},
    )


def run_scan(
    run: Callable[[SelectiveScanArgs], None],
    inputs: Arrays,
    *,
    softplus: bool = False,
    reverse: bool = False,
    element_type: int = FLOAT32,
) -> np.ndarray:
    """Run a C function on arguments in host memory; returns float32."""
    parameters = ("A", "D", "delta_bias")
    arrays = {
        name: np.ascontiguousarray(
            values if name in parameters else to_element(values, element_type)
        )
        for name, values in inputs.items()
    }
    y = np.full_like(arrays["u"], 77)
    args = scan_args(arrays, softplus=softplus, reverse=reverse)
    args.element_type, args.y = element_type, y.ctypes.data
    run(args)
    return from_element(y, element_type)


def reference(
    inputs: Arrays, *, softplus: bool = False, reverse: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the scan in float64, and the same sums of magnitudes: the scale of rounding."""
    wide = {name: values.astype(np.float64) for name, values in inputs.items()}
    u, skip = wide["u"], wide.get("D", 0.0)
    step = wide["delta"] + wide.get("delta_bias", 0.0)
    if softplus:
        step = np.logaddexp(0.0, step)
    y, size = np.empty_like(u), np.empty_like(u)
    state = np.zeros((u.shape[0], *wide["A"].shape))
    state_size = np.zeros_like(state)
    order = range(u.shape[1])
    for t in reversed(order) if reverse else order:
        decay = np.exp(step[:, t, :, None] * wide["A"])
        drive = (step[:, t] * u[:, t])[..., None] * wide["B"][:, t, None]
        state = decay * state + drive
        state_size = decay * state_size + np.abs(drive)
        y[:, t] = np.einsum("bdn,bn->bd", state, wide["C"][:, t])
        size[:, t] = np.einsum("bdn,bn->bd", state_size, np.abs(wide["C"][:, t]))
    y, size = y + skip * u, size + np.abs(skip * u)
    if "z" in wide:
        gate = wide["z"] / (1 + np.exp(-wide["z"]))
        y, size = y * gate, size * np.abs(gate)
    return y, size


def assert_close(
    found: np.ndarray, expected: tuple[np.ndarray, np.ndarray], element_type: int = FLOAT32
) -> None:
    y, size = expected
    allowed = FLOAT32_NOISE * size.max() + ROUNDING[element_type] * np.abs(y)
    assert found.shape == y.shape
    excess = np.abs(found - y) / allowed
    assert (excess <= 1).all(), f"error {excess.max():.2f} times what rounding explains"
