"""A function from tiles to logits in place of a predictor's network, in the same pipeline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segmaformer.runtime import Predictor
from segmaformer.runtime.open_network import OpenNetwork


class _Session:
    tiles_at_once, overlap = 1, False
    identity = coarse = resident = None

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], description: str):
        self.run, self.description = run, description


def replace_network(
    predictor: Predictor, run: Callable[[np.ndarray], np.ndarray], description: str
) -> None:
    """Let `predictor` run tiles (1, C, D, H, W) -> logits (1, K, D, H, W), float32, by `run`."""
    predictor.network = OpenNetwork(lambda: _Session(run, description), (), print)
