"""Dice of the synthetic scans of held-out heads."""

from __future__ import annotations

import numpy as np
import torch
from brain_plans import PATCH
from classes import BACKGROUND, CLASSES
from label_maps import LabelMap
from synthesis import Head, synthesize

from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_boxes
from segmaformer.runtime.spec import Tiling

FOREGROUND = {name: value for name, value in CLASSES.items() if value != BACKGROUND}
KINDS = ("T1", "any contrast")
SEED = 1_000_000
TILE_STEP = 0.75


def held_out_heads(maps: list[LabelMap]) -> dict[str, list[Head]]:
    """Make two scans of every head, always the same: one of each kind, half of them stripped."""
    return {
        kind: [
            synthesize(
                label_map,
                np.random.default_rng([SEED, number, row]),
                t1=kind == "T1",
                stripped=(number + row) % 2 == 0,
            )
            for number, label_map in enumerate(maps)
        ]
        for row, kind in enumerate(KINDS)
    }


@torch.no_grad()
def predict(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Label a prepared scan (1, D, H, W) from the sum of tiles that overlap by a quarter."""
    padded, place = pad_to_tile(image.numpy(), PATCH)
    _, depth, height, width = padded.shape
    logits = torch.zeros(len(CLASSES), depth, height, width)
    for box in tile_boxes((depth, height, width), Tiling(PATCH, step=TILE_STEP)):
        tile = torch.from_numpy(padded[(slice(None), *box)])[None]
        logits[(slice(None), *box)] += network(tile)[0].log_softmax(0)
    return logits.argmax(0)[place]


def mean_dice(network: torch.nn.Module, heads: list[Head]) -> dict[str, float]:
    """Average the Dice of each foreground class over scans, and over classes under ``mean``."""
    scores = np.full((len(heads), len(FOREGROUND)), np.nan)
    for row, head in zip(scores, heads, strict=True):
        found = predict(network, head.image)
        for column, value in enumerate(FOREGROUND.values()):
            marked, truth = found == value, head.labels == value
            if total := int(marked.sum() + truth.sum()):
                row[column] = 2 * int((marked & truth).sum()) / total
    by_class = np.nanmean(scores, axis=0).tolist()
    return {**dict(zip(FOREGROUND, by_class, strict=True)), "mean": float(np.mean(by_class))}
