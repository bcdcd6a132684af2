"""All logits of an image in memory, as a reference for streaming."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.bindings.logit_lines import Logits
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.progress import StepProgress
from segmaformer.runtime.spec import Label, Output, Resampling, Tiling

PLENTY = 1 << 60


def predict_logits(
    image: Logits,
    tiling: Tiling,
    network: TileNetwork,
    channels: int,
    *,
    progress: StepProgress | None = None,
) -> Logits:
    """Blend the logits of all tiles.

    Parameters
    ----------
    image
        Shape (C, D, H, W), float32, on the network's grid.
    tiling
        Tile, step and weights.
    network
        What runs the tiles.
    channels
        Number of channels K of the logits.
    progress
        Called with the tiles done and their number, first with none done.

    Returns
    -------
    ndarray
        Shape (K, D, H, W), float32.
    """
    _, depth, height, width = image.shape
    grid = LogitsGrid((depth, height, width), (1.0,) * 3, (1.0,) * 3, Resampling(order=1))
    output = Output(tuple(Label(value, str(value)) for value in range(channels)))
    stream = LabelStream(
        np.ascontiguousarray(image, np.float32),
        tiling,
        output,
        grid,
        network,
        budget=MemoryBudget(PLENTY),
        threads=0,
    )
    return stream.logits(progress or (lambda done, count: None))
