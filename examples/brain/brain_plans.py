"""Plans of this training: the network, its patch and the preparation of scans."""

from __future__ import annotations

from typing import Any

from classes import CLASSES

from segmaformer.checkpoint.training.plans import preprocessing_of, resolve_configuration
from segmaformer.checkpoint.training.readers import training_reader
from segmaformer.runtime.spec import Preprocessing

CONFIGURATION = "3d_fullres"
SPACING_MM = (2.0, 2.0, 2.0)
PATCH = (64, 80, 64)
"""Voxels up, forward and right: 128 x 160 x 128 mm, most of a brain."""
MIRROR_AXES = (2,)
TRAINER = "SegMaFormerTrainer_Custom_Stage1Mamba_Stage23Hybrid_Stage4Attention"
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


def plans() -> dict[str, Any]:
    """Return nnU-Net v2 plans."""
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "architecture": {"network_class_name": "SegMaFormer", "arch_kwargs": NETWORK},
        "patch_size": list(PATCH),
        "spacing": list(SPACING_MM),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
    }
    return {
        "dataset_name": "Dataset100_SyntheticBrains",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "NibabelIOWithReorient",
        "configurations": {CONFIGURATION: configuration},
        "foreground_intensity_properties_per_channel": {},
    }


def dataset() -> dict[str, Any]:
    """Return the content of nnU-Net's dataset.json."""
    return {
        "channel_names": {"0": "MRI"},
        "labels": CLASSES,
        "file_ending": ".nii.gz",
        "name": "SyntheticBrains",
    }


def preprocessing() -> Preprocessing:
    """Return the preparation of a scan as the package will have it."""
    stated = plans()
    _, configuration = resolve_configuration(stated, CONFIGURATION)
    return preprocessing_of(stated, configuration, ("MRI",), training_reader(stated))
