"""The selective scan by its definition, step by step in NumPy.

It shares no code with the operator that PyTorch and the exported graphs run, so that a fault there
cannot hide. Source: A. Gu and T. Dao, arXiv 2312.00752.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

STATES_AT_ONCE = 2**17
"""Largest number of values (sequences x tokens x channels x states) at a time: a cache's worth."""

Arrays = Mapping[str, np.ndarray]


def scan_by_definition(
    inputs: Arrays, *, delta_softplus: bool, reverse: bool, dtype: Any = np.float64
) -> np.ndarray:
    """Compute ``y[t] = C[t] h[t] + D u[t]``, times ``SiLU(z[t])`` where there is a gate.

    Parameters
    ----------
    inputs
        ``u``, ``delta`` and perhaps ``z`` (B, L, D), ``A`` (D, N), ``B`` and ``C`` (B, L, N), and
        perhaps ``D`` and ``delta_bias`` (D).
    delta_softplus
        Whether the steps pass through softplus.
    reverse
        Whether the sequence runs from its end.
    dtype
        Type of every number.

    Returns
    -------
    np.ndarray
        Shape (B, L, D).
    """
    ordered = {
        name: array[:, ::-1] if reverse and array.ndim == 3 else array
        for name, array in inputs.items()
    }
    batch, length, channels = ordered["u"].shape
    state = np.zeros((batch, channels, ordered["A"].shape[1]), dtype)
    y = np.empty((batch, length, channels), dtype)
    tokens = max(1, STATES_AT_ONCE // state.size)
    for start in range(0, length, tokens):
        part = slice(start, start + tokens)
        block = {
            name: (array[:, part] if array.ndim == 3 else array).astype(dtype)
            for name, array in ordered.items()
        }
        y[:, part] = _block(block, state, delta_softplus=delta_softplus)
    return y[:, ::-1] if reverse else y


def _block(inputs: Arrays, state: np.ndarray, *, delta_softplus: bool) -> np.ndarray:
    """Scan some tokens; `state` (B, D, N) goes on from one block to the next."""
    u, step = inputs["u"], inputs["delta"]
    if "delta_bias" in inputs:
        step = step + inputs["delta_bias"]
    if delta_softplus:
        step = np.logaddexp(0, step, dtype=step.dtype)
    # Tokens first: each step reads and writes one run of memory.
    decay = np.exp(np.moveaxis(step, 1, 0)[..., None] * inputs["A"])
    driven = np.moveaxis(step * u, 1, 0)[..., None] * np.moveaxis(inputs["B"], 1, 0)[:, :, None]
    for token_decay, token_driven in zip(decay, driven, strict=True):
        np.multiply(state, token_decay, out=state)
        np.add(state, token_driven, out=state)
        token_driven[...] = state
    y = np.einsum("lbdn,bln->bld", driven, inputs["C"])
    if "D" in inputs:
        y = y + inputs["D"] * u
    if "z" in inputs:
        z = inputs["z"]
        y = y * z * np.exp(-np.logaddexp(0, -z, dtype=z.dtype))
    return y
