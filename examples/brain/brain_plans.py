"""Record of this training: the network, its patch and the preparation of scans."""

from __future__ import annotations

from typing import Any

from classes import CLASSES

from segmaformer.checkpoint import TrainingRecord

SPACING_MM = (2.0, 2.0, 2.0)
PATCH = (64, 80, 64)
"""Voxels up, forward and right: 128 x 160 x 128 mm, most of a brain."""
NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "num_classes": len(CLASSES),
    "embed_dims": [32, 64, 96, 160],
    "depths": [1, 2, 2, 1],
    "num_heads": [1, 2, 4, 5],
    "d_state": [8, 8, 4, 4],
    "expand": [2, 2, 1, 1],
    "patch_kernel_size": [3, 3, 3, 3],
    "patch_stride": [2, 2, 2, 2],
    "patch_padding": [1, 1, 1, 1],
    "decoder_head_embedding_dim": 128,
}
"""The geometry of the published BONES configuration, narrower."""
RECORD = TrainingRecord(
    network="segmaformer",
    configuration=NETWORK,
    patch_size=PATCH,
    spacing_mm=SPACING_MM,
    channels=["MRI"],
    labels=CLASSES,
    normalizations=["ZScoreNormalization"],
    reader="NibabelIOWithReorient",
    mirror_axes=(2,),
    dataset="Dataset100_SyntheticBrains",
    licence="Apache-2.0",
    trainer="SegMaFormerTrainer_Custom_Stage1Mamba_Stage23Hybrid_Stage4Attention",
)
