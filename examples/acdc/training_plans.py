"""Plans of this training: the network, its patch and the preparation of scans."""

from __future__ import annotations

from typing import Any

from segmaformer.checkpoint.training.plans import preprocessing_of, resolve_configuration
from segmaformer.checkpoint.training.readers import training_reader
from segmaformer.models import model_config
from segmaformer.runtime.spec import Preprocessing

CONFIGURATION = "3d_fullres"
PATCH = (12, 160, 160)
"""Depth, height and width in voxels of 10 x 1.5625 x 1.5625 mm; no scan of ACDC is deeper."""
LABELS = {"background": 0, "RV": 1, "Myo": 2, "LV": 3}
MIRROR_AXES = (1, 2)
TRAINER = "SegMaFormerTrainer_ACDC_Stage1Mamba_Stage23Hybrid_Stage4Attention_Fixed"


def plans() -> dict[str, Any]:
    """Return nnU-Net v2 plans: its spacing and resampling for ACDC, and the network."""
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "architecture": {
            "network_class_name": "SegMaFormer",
            "arch_kwargs": model_config("segmaformer", preset="acdc_fixed"),
        },
        "patch_size": list(PATCH),
        "spacing": [10.0, 1.5625, 1.5625],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
    }
    return {
        "dataset_name": "Dataset027_ACDC",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        # The training scans' sform says 1 mm; this reader takes the spacing in the header.
        "image_reader_writer": "SimpleITKIO",
        "configurations": {CONFIGURATION: configuration},
        "foreground_intensity_properties_per_channel": {},
    }


def dataset() -> dict[str, Any]:
    """Return the content of nnU-Net's dataset.json."""
    return {
        "channel_names": {"0": "cineMRI"},
        "labels": LABELS,
        "file_ending": ".nii.gz",
        "name": "ACDC",
    }


def preprocessing() -> Preprocessing:
    """Return the preparation of a scan as the package will have it."""
    stated = plans()
    _, configuration = resolve_configuration(stated, CONFIGURATION)
    return preprocessing_of(stated, configuration, ("cineMRI",), training_reader(stated))
