"""The C function at the sizes of every published network, against float64.

Channels do not mix, so that a few of them vouch for all: the first and last one, and those on
either side of the ends of vectors and panels. The definition is evaluated for all pieces of a
sequence at once, from zero, and again from the states that the pieces before them leave.

The allowance does not grow with the length. A rounding error fades as the state does that carries
it: what counts is how many tokens a state remembers, here at most some hundred.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scans.scan_cases import OPTIONAL, Arrays, assert_close, make_inputs, run_scan

from segmaformer.runtime.bindings.op_library import cpu_isas, run_selective_scan

STATES = (1, 4, 8, 16, 32, 64, 256)
MOST_CHANNELS, LONGEST = 640, 300_000
LARGEST_WORK = 1_500_000  # tokens times channels times states of a drawn case

# (states, channels, tokens): as much as the definition takes a second for. Where states are many,
# a shorter sequence is as good: their largest rates forget within a few tokens.
LONG = [
    (1, 17, LONGEST),
    (4, 3, LONGEST),
    (8, 2, LONGEST),
    (16, 2, LONGEST),
    (32, 1, LONGEST),
    (64, 1, 100_000),
    (256, 1, 30_000),
]


def scan(inputs: Arrays, *, threads: int, isa: str, reverse: bool = False) -> np.ndarray:
    call = partial(run_selective_scan, threads=threads, isa=isa)
    return run_scan(call, inputs, softplus=True, reverse=reverse)


def channels_that_vouch(channels: int) -> np.ndarray:
    ends = (0, 1, 15, 16, 17, 63, 64, channels - 2, channels - 1)
    return np.array(sorted({end for end in ends if 0 <= end < channels}))


def only(inputs: Arrays, channels: np.ndarray) -> Arrays:
    """Return the same inputs for some of the channels, in float64."""
    shared = ("B", "C")
    rows = {"A": inputs["A"][channels]}
    rest = {k: v if k in shared else v[..., channels] for k, v in inputs.items() if k != "A"}
    return {name: values.astype(np.float64) for name, values in (rest | rows).items()}


def scan_in_pieces(inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Compute the forward scan with softplus of one batch entry, and the sums of magnitudes."""
    step = np.logaddexp(0.0, inputs["delta"] + inputs["delta_bias"])[0]
    length, channels = step.shape
    pieces = math.isqrt(length - 1) + 1
    tokens = -(-length // pieces)
    missing = ((0, pieces * tokens - length), (0, 0))  # a step of zero leaves the state alone

    def cut(values: np.ndarray) -> np.ndarray:  # (tokens, pieces, width)
        return np.pad(values, missing).reshape(pieces, tokens, -1).swapaxes(0, 1)

    drive, b, c = (cut(v) for v in (step * inputs["u"][0], inputs["B"][0], inputs["C"][0]))
    total = cut(step).sum(axis=0)[..., None]
    # Signed values and magnitudes side by side.
    drive, b, c = (np.stack([v, np.abs(v)], axis=1) for v in (drive, b, c))

    def run(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.empty((*drive.shape[:3], channels))
        decay, driven = np.empty_like(state[0]), np.empty_like(state)
        for t, steps in enumerate(cut(step)):
            np.exp(np.multiply(steps[..., None], inputs["A"], out=decay), out=decay)
            state *= decay
            state += np.multiply(drive[t][..., None], b[t][:, :, None], out=driven)
            y[t] = (state @ c[t][..., None])[..., 0]
        return y, state

    start = np.zeros((2, pieces, channels, b.shape[-1]))
    _, after = run(start.copy())
    for piece in range(1, pieces):
        decay = np.exp(total[piece - 1] * inputs["A"])
        start[:, piece] = decay * start[:, piece - 1] + after[:, piece - 1]
    y, _ = run(start)
    values, size = y.transpose(1, 2, 0, 3).reshape(2, pieces * tokens, channels)[:, None, :length]
    skip, gate = inputs["D"] * inputs["u"], inputs["z"] / (1 + np.exp(-inputs["z"]))
    return (values + skip) * gate, (size + np.abs(skip)) * np.abs(gate)


def check_both_directions(inputs: Arrays, runs: list[tuple[str, int]]) -> None:
    """Check every (instruction set, threads), forward and from the end.

    The sequence is mirrored for the latter, so that one definition serves both.
    """
    mirrored = {k: v[:, ::-1] if v.ndim == 3 else v for k, v in inputs.items()}
    chosen = channels_that_vouch(inputs["u"].shape[2])
    expected = scan_in_pieces(only(inputs, chosen))
    for isa, threads in runs:
        forward = scan(inputs, threads=threads, isa=isa)
        assert_close(forward[..., chosen], expected)
        backward = scan(mirrored, reverse=True, threads=threads, isa=isa)
        assert_close(backward[:, ::-1, chosen], expected)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Return (length, channels, states), each over its whole range, evenly over magnitudes."""
    states = draw(st.sampled_from(STATES))

    def magnitude(largest: int) -> int:
        return round(math.exp(draw(st.floats(0, math.log(max(1, largest))))))

    channels = magnitude(min(MOST_CHANNELS, LARGEST_WORK // states))
    return magnitude(min(LONGEST, LARGEST_WORK // (states * channels))), channels, states


@settings(max_examples=30)
@given(sizes=sizes(), threads=st.integers(1, 9), isa=st.sampled_from(cpu_isas()))
def test_any_size(sizes: tuple[int, int, int], threads: int, isa: str) -> None:
    check_both_directions(make_inputs(*sizes, optional=OPTIONAL), [(isa, threads)])


@pytest.mark.parametrize(("states", "channels", "length"), LONG)
def test_long_sequences(states: int, channels: int, length: int) -> None:
    inputs = make_inputs(length, channels, states, optional=OPTIONAL)
    check_both_directions(inputs, list(zip(cpu_isas(), (2, 5, 1), strict=False)))


@pytest.mark.parametrize("states", STATES)
def test_most_channels(states: int) -> None:
    inputs = make_inputs(300, MOST_CHANNELS, states, optional=OPTIONAL)
    check_both_directions(inputs, [(isa, 3) for isa in cpu_isas()])


@pytest.mark.parametrize("isa", cpu_isas())
def test_a_state_that_never_forgets(isa: str) -> None:
    """Test states that never fade: each token adds a rounding, which sum up as a random walk."""
    inputs = make_inputs(LONGEST, 2, 4, optional=OPTIONAL)
    inputs["A"] = np.full_like(inputs["A"], -1e-7)
    expected, size = scan_in_pieces(only(inputs, np.arange(2)))
    for threads in (1, 5):
        found = scan(inputs, threads=threads, isa=isa)
        assert np.abs(found - expected).max() <= 2.0**-24 * math.sqrt(LONGEST) * size.max()
