"""Reading of trained weights into a ready network, and writing; no checkpoint runs code."""

from __future__ import annotations

from segmaformer.checkpoint.cascade import with_previous_stage
from segmaformer.checkpoint.description import describe_checkpoint
from segmaformer.checkpoint.folds import load_folds
from segmaformer.checkpoint.loading import Checkpoint, load_checkpoint
from segmaformer.checkpoint.training_record import TrainingRecord

__all__ = [
    "Checkpoint",
    "TrainingRecord",
    "describe_checkpoint",
    "load_checkpoint",
    "load_folds",
    "with_previous_stage",
]
