"""Checkpoint files of every network in its published configuration, as its training writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BRATS, ABDOMEN = (4, 128, 128, 128), (1, 48, 192, 192)
TILES = {
    "segmaformer": BRATS,
    "segformer3d": BRATS,
    "segresmamba": BRATS,
    "segmamba": BRATS,
    "taming-segmamba": ABDOMEN,
    "taming-bisegmamba": ABDOMEN,
    "taming-segmambaskip": ABDOMEN,
    "taming-multisegmamba": ABDOMEN,
    "umamba-bot": ABDOMEN,
    "umamba-enc": ABDOMEN,
    "nnunet-plain": ABDOMEN,
    "nnunet-resenc": ABDOMEN,
}
"""Channels, depth, height and width of one tile."""

CT_INTENSITIES: dict[str, float] = {
    "mean": 80.0,
    "std": 140.0,
    "percentile_00_5": -960.0,
    "percentile_99_5": 330.0,
}
"""About what nnU-Net finds in abdominal CT."""


def make_network(name: str) -> Any:
    """Build a network in its published configuration; its random weights are always the same."""
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(0)
    return create_model(name, preset="abdomen" if _is_abdominal(name) else "brats").eval()


def write_checkpoint(name: str, folder: Path) -> Path:
    """Write the network's random weights as its published training does.

    Returns
    -------
    Path
        An nnU-Net v2 checkpoint with plans, or weights alone for those trained without nnU-Net.
    """
    import torch

    model = make_network(name)
    weights = model.state_dict()
    if name == "segmaformer" or _is_abdominal(name):
        path = folder / f"{name}.pth"
        torch.save(_nnunet_checkpoint(name, model.config, weights), path)
    else:
        path = folder / f"{name}.pt"
        torch.save(weights, path)
    return path


def _nnunet_checkpoint(name: str, config: dict[str, Any], weights: Any) -> dict[str, Any]:
    channels, *tile = TILES[name]
    abdominal = _is_abdominal(name)
    plan: dict[str, Any] = {
        "patch_size": tile,
        "spacing": [3.0, 0.8, 0.8] if abdominal else [1.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization" if abdominal else "ZScoreNormalization"]
        * channels,
        "use_mask_for_norm": [not abdominal] * channels,
        "architecture": _architecture(name, config),
    }
    classes = config["num_classes"]
    return {
        "network_weights": weights,
        "init_args": {
            "plans": {
                "plans_name": "nnUNetPlans",
                "transpose_forward": [0, 1, 2],
                "image_reader_writer": "SimpleITKIO",
                "configurations": {"3d_fullres": plan},
                "foreground_intensity_properties_per_channel": {"0": CT_INTENSITIES}
                if abdominal
                else {},
            },
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {
                "channel_names": {str(i): "CT" if abdominal else f"MR{i}" for i in range(channels)},
                "labels": {"background": 0, **{f"organ {i}": i for i in range(1, classes)}},
                "file_ending": ".nii.gz",
            },
        },
        "trainer_name": _TRAINERS[name],
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


_TRAINERS = {
    "segmaformer": "SegMaFormerTrainer_Custom_Stage1Mamba_Stage23Hybrid_Stage4Attention",
    "taming-segmamba": "nnUNetTrainerSegMamba",
    "taming-bisegmamba": "nnUNetTrainerPanSegMamba",
    "taming-segmambaskip": "nnUNetTrainerSegMambaSkip",
    "taming-multisegmamba": "nnUNetTrainerMultiSegMamba",
    "umamba-bot": "nnUNetTrainerUMambaBot",
    "umamba-enc": "nnUNetTrainerUMambaEnc",
    "nnunet-plain": "nnUNetTrainer",
    "nnunet-resenc": "nnUNetTrainer",
}


def _architecture(name: str, config: dict[str, Any]) -> dict[str, Any]:
    if not _is_abdominal(name):
        return {"network_class_name": "SegMaFormer", "arch_kwargs": config}
    kept = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder")
    arguments = {**{key: config[key] for key in kept}, "conv_bias": True}
    arguments["n_blocks_per_stage"] = config["n_conv_per_stage_encoder"]
    arguments["n_stages"] = len(config["features_per_stage"])
    return {"network_class_name": "ResidualEncoderUNet", "arch_kwargs": arguments}


def _is_abdominal(name: str) -> bool:
    return TILES[name] == ABDOMEN
