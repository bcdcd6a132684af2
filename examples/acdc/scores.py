"""Loss of a batch, and Dice of whole cases on the network's grid."""

from __future__ import annotations

import numpy as np
import torch
from cases import Case
from torch.nn import functional as F
from training_plans import LABELS, PATCH

from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_boxes
from segmaformer.runtime.spec import Tiling

FOREGROUND = {name: value for name, value in LABELS.items() if value}


def dice_and_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Add cross-entropy and one minus the mean soft Dice of the foreground.

    Parameters
    ----------
    logits
        Shape (B, K, D, H, W).
    labels
        Shape (B, D, H, W), int64.
    """
    log_probability = logits.log_softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
    probability = log_probability[:, 1:].exp()
    axes = (0, 2, 3, 4)
    overlap = 2 * (probability * truth).sum(axes) + 1e-5
    dice = overlap / (probability.sum(axes) + truth.sum(axes) + 1e-5)
    return F.nll_loss(log_probability, labels) + 1 - dice.mean()


@torch.no_grad()
def predict(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Label a prepared case (1, D, H, W) from the sum of tiles that overlap by half, unweighted."""
    padded, place = pad_to_tile(image.numpy(), PATCH)
    _, depth, height, width = padded.shape
    logits = torch.zeros(len(LABELS), depth, height, width)
    count = torch.zeros(depth, height, width)
    for box in tile_boxes((depth, height, width), Tiling(PATCH)):
        logits[(slice(None), *box)] += network(torch.from_numpy(padded[(slice(None), *box)])[None])[
            0
        ]
        count[box] += 1
    return (logits / count).argmax(0)[place]


def mean_dice(network: torch.nn.Module, cases: list[Case]) -> dict[str, float]:
    """Average the Dice of each foreground label over cases, and over labels under ``mean``."""
    scores = np.full((len(cases), len(FOREGROUND)), np.nan)
    for row, case in zip(scores, cases, strict=True):
        found = predict(network, case.image)
        for column, value in enumerate(FOREGROUND.values()):
            marked, truth = found == value, case.labels == value
            if total := int(marked.sum() + truth.sum()):
                row[column] = 2 * int((marked & truth).sum()) / total
    by_label = np.nanmean(scores, axis=0).tolist()
    return {**dict(zip(FOREGROUND, by_label, strict=True)), "mean": float(np.mean(by_label))}
