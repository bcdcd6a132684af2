"""MONAI bundles for tests: their configurations, in the published form."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

METADATA: dict[str, Any] = {
    "version": "0.5.8",
    "network_data_format": {
        "inputs": {
            "image": {"modality": "CT", "num_channels": 1, "channel_def": {"0": "image"}},
        },
        "outputs": {
            "pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}},
        },
    },
}

INFERENCE: dict[str, Any] = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [4, 8],
        "strides": [2],
        "num_res_units": 1,
        "norm": "batch",
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [1.5, 1.5, 2.0],
                "mode": "bilinear",
            },
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -57,
                "a_max": 164,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": [32, 32, 16],
        "sw_batch_size": 4,
        "overlap": 0.5,
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "meta_key_postfix": "meta_dict",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "amp": True,
    },
    "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', True)"],
    "run": ["$@evaluator.run()"],
}


def inference(**changed: Any) -> dict[str, Any]:
    """Return the configuration with some of its entries replaced."""
    return {**copy.deepcopy(INFERENCE), **changed}


def compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a chain of transforms."""
    return {"_target_": "Compose", "transforms": list(transforms)}


def write_bundle(
    folder: Path,
    configuration: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    weights: bytes = b"",
) -> Path:
    """Write the folder of a bundle."""
    for name in ("configs", "models", "scripts"):
        (folder / name).mkdir(parents=True)
    (folder / "configs/metadata.json").write_text(json.dumps(metadata or METADATA))
    (folder / "configs/inference.json").write_text(json.dumps(configuration))
    (folder / "scripts/__init__.py").write_text("raise SystemExit('this code was run')\n")
    (folder / "models/model.pt").write_bytes(weights)
    return folder
