"""Record of this training: the network, its patch and the preparation of scans."""

from __future__ import annotations

from segmaformer.checkpoint import TrainingRecord
from segmaformer.models import model_config

PATCH = (12, 160, 160)
"""Depth, height and width in voxels of 10 x 1.5625 x 1.5625 mm; no scan of ACDC is deeper."""
LABELS = {"background": 0, "RV": 1, "Myo": 2, "LV": 3}
MIRROR_AXES = (1, 2)
RECORD = TrainingRecord(
    network="segmaformer",
    configuration=model_config("segmaformer", preset="acdc_fixed"),
    patch_size=PATCH,
    spacing_mm=(10.0, 1.5625, 1.5625),
    channels=["cineMRI"],
    labels=LABELS,
    normalizations=["ZScoreNormalization"],
    # The training scans' sform says 1 mm; this reader takes the spacing in the header.
    reader="SimpleITKIO",
    mirror_axes=MIRROR_AXES,
    dataset="Dataset027_ACDC",
    trainer="SegMaFormerTrainer_ACDC_Stage1Mamba_Stage23Hybrid_Stage4Attention_Fixed",
)
