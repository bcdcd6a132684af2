"""PyTorch or any other function from tiles to logits in place of a predictor's network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from segmaformer.runtime import Predictor
from segmaformer.runtime.backends.session import NetworkKind
from segmaformer.runtime.open_network import OpenNetwork


class _Session:
    tiles_at_once, overlap = 1, False
    identity = coarse = resident = None
    kind = NetworkKind("pytorch", "cpu", "fp32")

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], description: str):
        self.run, self.description = run, description


def replace_network(
    predictor: Predictor, run: Callable[[np.ndarray], np.ndarray], description: str
) -> None:
    """Let `predictor` run tiles (1, C, D, H, W) -> logits (1, K, D, H, W), float32, by `run`."""
    predictor.network = OpenNetwork(lambda: _Session(run, description), (), print)


def run_in_pytorch(predictor: Predictor, network: torch.nn.Module) -> None:
    """Let `predictor` run tiles by the network in PyTorch."""

    def run(tiles: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = network(torch.from_numpy(tiles)).numpy()
        return logits

    replace_network(predictor, run, "PyTorch, CPU, float32")
