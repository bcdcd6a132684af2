"""A small SegMaFormer and the files that nnU-Net would write around it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

TINY = {
    "in_channels": 2,
    "num_classes": 3,
    "embed_dims": [6, 8, 12, 60],
    "depths": [2, 1, 1, 1],
    "mlp_ratios": [2, 2, 1, 2],
    "num_heads": [1, 2, 4, 6],
    "d_state": [2, 3, 4, 4],
    "expand": [1, 2, 1, 1],
    "patch_kernel_size": [3, 3, 3, 3],
    "patch_stride": [2, 2, 2, 2],
    "patch_padding": [1, 1, 1, 1],
    "decoder_head_embedding_dim": 10,
}

PLANS: dict[str, Any] = {
    "dataset_name": "Dataset900_Toy",
    "transpose_forward": [0, 2, 1],
    "transpose_backward": [0, 2, 1],
    "image_reader_writer": "SimpleITKIO",
    "configurations": {
        "2d": {
            "patch_size": [64, 64],
            "spacing": [1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
            "use_mask_for_norm": [True, False],
        },
        "3d_fullres": {
            "patch_size": [16, 24, 32],
            "spacing": [3.0, 0.5, 0.75],
            "preprocessor_name": "DefaultPreprocessor",
            "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
            "use_mask_for_norm": [True, False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {
                "is_seg": False,
                "order": 3,
                "order_z": 0,
                "force_separate_z": None,
            },
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {
                "is_seg": False,
                "order": 1,
                "order_z": 0,
                "force_separate_z": None,
            },
        },
    },
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 1.0, "std": 2.0, "percentile_00_5": 0.0, "percentile_99_5": 3.0},
        "1": {"mean": 80.0, "std": 140.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0},
    },
}

DATASET: dict[str, Any] = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "left": 1, "right": 2},
    "file_ending": ".nii.gz",
}


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """Give the configuration of the small network, as far as it differs from the defaults."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def tiny_weights() -> dict[str, Any]:
    """Give the state dict of the small network; copy it before changing it."""
    from segmaformer.models import create_model

    torch.manual_seed(0)
    return dict(create_model("segmaformer", **TINY).state_dict())


@pytest.fixture
def plans() -> dict[str, Any]:
    """Give a plans.json that fits the small network."""
    return copy.deepcopy(PLANS)


@pytest.fixture
def dataset() -> dict[str, Any]:
    """Give a dataset.json that fits the small network."""
    return copy.deepcopy(DATASET)


@pytest.fixture
def nnunet_document(
    tiny_weights: dict[str, Any], plans: dict[str, Any], dataset: dict[str, Any]
) -> dict[str, Any]:
    """Give what nnU-Net v2 saves: weights, state of the training, and its settings."""
    import numpy as np

    return {
        "network_weights": dict(tiny_weights),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": np.float64(1e-3)}]},
        "grad_scaler_state": {"scale": 65536.0},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.25)],
            "epoch_end_timestamps": [1.7e9],
            "dice_per_class_or_region": [[np.float32(0.5), np.float64("nan")]],
            "epochs": np.int64(2),
            "improved": np.bool_(True),
        },
        "_best_ema": np.float64(0.75),
        "current_epoch": 2,
        "init_args": {
            "plans": plans,
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": dataset,
            "device": torch.device("cuda"),
        },
        "trainer_name": "SegMaFormerTrainer_Custom_Stage1Mamba_Stage23Hybrid_Stage4Attention",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
