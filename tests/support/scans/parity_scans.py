"""Scans, plans and a network for the comparison with nnU-Net v2 as a whole.

As in parity_cases.py, everything is made from seeds.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from support.networks.networks import TINY_CONFIG, TINY_TILE
from support.scans.parity_cases import CT_PROPERTIES, Spacing, Triple

EVEN: Spacing = (1.0, 1.0, 1.0)


def scan(seed: int, channels: int, shape: Triple, border: int = 3) -> np.ndarray:
    """Make smooth structures with noise, in whole numbers; zero outside a rounded box."""
    rng = np.random.default_rng(seed)
    smooth = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 3) for _ in range(channels)])
    image = 400 + 8000 * smooth + rng.normal(0, 15, (channels, *shape))
    axes = [(2 * np.arange(n) + 1 - n) / max(n - 2 * border, 1) for n in shape]
    inside = sum(axis**4 for axis in np.ix_(*axes)) < 1
    return (image.round() * inside).astype(np.float32)


def plans(
    *,
    channels: int = 1,
    transpose: Triple = (0, 1, 2),
    spacing: Spacing = (1.0, 1.0, 1.0),
    schemes: tuple[str, ...] = ("ZScoreNormalization",),
    use_mask: tuple[bool, ...] = (False,),
    order_z: int = 0,
) -> dict[str, Any]:
    """Return the content of an nnU-Net plans.json for tiles of TINY_TILE."""
    resampling = {"is_seg": False, "order_z": order_z, "force_separate_z": None}
    return {
        "dataset_name": "Dataset001_Parity",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIOWithReorient",
        "label_manager": "LabelManager",
        "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "configurations": {
            "3d_fullres": {
                "preprocessor_name": "DefaultPreprocessor",
                "architecture": {},
                "patch_size": list(TINY_TILE),
                "spacing": list(spacing),
                "normalization_schemes": list(schemes),
                "use_mask_for_norm": list(use_mask),
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {**resampling, "order": 3},
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
            }
        },
        "foreground_intensity_properties_per_channel": {
            str(channel): CT_PROPERTIES for channel in range(channels)
        },
    }


@dataclass(frozen=True)
class ScanCase:
    """Scan (C, D, H, W), its spacing and plans, as nnU-Net's reader would give them."""

    seed: int
    shape: Triple
    spacing: Spacing
    plans: dict[str, Any]
    channels: int = 1
    border: int = 3

    def scan(self) -> np.ndarray:
        return scan(self.seed, self.channels, self.shape, self.border)


PREPROCESSING_CASES = {
    "own spacing": ScanCase(61, (22, 24, 26), EVEN, plans()),
    "transposed, two channels": ScanCase(
        62,
        (18, 20, 24),
        (1.5, 0.9, 0.8),
        plans(
            channels=2,
            transpose=(2, 0, 1),
            spacing=(1.1, 1.0, 0.9),
            schemes=("ZScoreNormalization", "CTNormalization"),
            use_mask=(True, False),
        ),
        channels=2,
    ),
    "coarse slices": ScanCase(
        63,
        (12, 26, 28),
        (5.0, 0.8, 0.8),
        plans(spacing=(2.0, 1.0, 1.0), schemes=("RescaleTo01Normalization",)),
    ),
    "coarse slices, linear, transposed": ScanCase(
        64,
        (28, 12, 26),
        (0.8, 4.0, 0.8),
        plans(
            transpose=(1, 0, 2),
            spacing=(4.0, 1.1, 1.1),
            schemes=("NoNormalization",),
            order_z=1,
        ),
    ),
}


# Whole predictions ------------------------------------------------------------------

LABELS = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "anterior": 1, "posterior": 2},
    "file_ending": ".nii.gz",
}
REGIONS = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": [3]},
    "regions_class_order": [2, 1, 3],
    "file_ending": ".nii.gz",
}


@dataclass(frozen=True)
class PredictionCase:
    """Scan, meaning of its labels and the axes to mirror."""

    case: ScanCase
    dataset: dict[str, Any]
    mirror_axes: tuple[int, ...] = ()


PREDICTION_CASES = {
    "several tiles": PredictionCase(ScanCase(131, (38, 36, 56), EVEN, plans()), LABELS),
    "mirrored": PredictionCase(ScanCase(172, (36, 30, 54), EVEN, plans()), LABELS, (0, 2)),
    "smaller than a tile": PredictionCase(
        ScanCase(103, (24, 40, 46), EVEN, plans(), border=1), LABELS, (0, 1, 2)
    ),
    "coarse slices, transposed": PredictionCase(
        ScanCase(
            74,
            (40, 12, 44),
            (0.9, 3.5, 0.8),
            plans(transpose=(1, 0, 2), spacing=(1.2, 1.0, 1.0), use_mask=(True,)),
        ),
        LABELS,
    ),
    "regions": PredictionCase(
        ScanCase(305, (38, 34, 40), (1.0, 1.1, 1.3), plans(transpose=(0, 2, 1))), REGIONS, (1,)
    ),
}


def fill_weights(model: Any) -> Any:
    """Give every parameter of a network lively values that depend on its name alone."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = _weights(name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    return model


def _weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.rpartition(".")[2]
    if leaf == "A_log":
        return np.log(np.arange(1, shape[1] + 1)) + 0.1 * normal
    if name.endswith("dt_proj.bias"):
        return normal - 3
    if leaf in ("gamma1", "gamma2"):
        return 0.5 + 0.1 * normal
    if len(shape) > 1:
        return normal / np.sqrt(np.prod(shape[1:]))
    return 0.1 * normal + (0 if leaf == "bias" else 1)


def filled_network() -> Any:
    """Build a SegMaFormer of TINY_CONFIG in evaluation mode, with :func:`fill_weights`."""
    from segmaformer.models import create_model

    return fill_weights(create_model("segmaformer", **TINY_CONFIG)).eval()
