"""Small networks and checkpoints for tests that need a whole path in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TINY_CONFIG: dict[str, Any] = {
    "in_channels": 1,
    "num_classes": 3,
    "embed_dims": [12, 12, 18, 24],
    "depths": [1, 1, 1, 1],
    "mlp_ratios": [2, 2, 2, 2],
    "num_heads": [1, 1, 1, 2],
    "d_state": [4, 4, 4, 4],
    "patch_kernel_size": [3, 3, 3, 3],
    "patch_stride": [2, 2, 2, 2],
    "patch_padding": [1, 1, 1, 1],
    "decoder_head_embedding_dim": 16,
}
TINY_TILE = (32, 32, 48)


def tiny_plans(channels: int = 1) -> dict[str, Any]:
    return {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "NibabelIOWithReorient",
        "configurations": {
            "3d_fullres": {
                "architecture": {
                    "network_class_name": "SegMaFormer",
                    "arch_kwargs": {**TINY_CONFIG, "in_channels": channels},
                },
                "patch_size": list(TINY_TILE),
                "spacing": [1.0, 1.0, 1.0],
                "normalization_schemes": ["ZScoreNormalization"] * channels,
                "use_mask_for_norm": [False] * channels,
            }
        },
        "foreground_intensity_properties_per_channel": {},
    }


def tiny_dataset_json(channels: int = 1) -> dict[str, Any]:
    return {
        "channel_names": {str(index): f"MR{index}" for index in range(channels)},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "file_ending": ".nii.gz",
    }


def save_tiny_checkpoint(path: Path, *, channels: int = 1, seed: int = 0) -> Path:
    """Write a small SegMaFormer with lively weights as an nnU-Net v2 checkpoint."""
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(seed)
    model = create_model("segmaformer", **{**TINY_CONFIG, "in_channels": channels})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] in ("gamma1", "gamma2"):
                parameter.uniform_(0.3, 0.7)
        model.decoder.pred.weight *= 10
    torch.save(
        {
            "network_weights": model.state_dict(),
            "init_args": {
                "plans": tiny_plans(channels),
                "configuration": "3d_fullres",
                "fold": 0,
                "dataset_json": tiny_dataset_json(channels),
            },
            "trainer_name": "SegMaFormerTrainer_Custom_Stage1Mamba_Stage23Hybrid_Stage4Attention",
            "inference_allowed_mirroring_axes": (2,),
        },
        path,
    )
    return path
