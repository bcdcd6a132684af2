"""A small trained-model folder as nnU-Net writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TILE = (16, 16, 16)
CONFIG: dict[str, Any] = {
    "input_channels": 1,
    "num_classes": 3,
    "features_per_stage": [4, 8, 12],
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
}
DATASET = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "anterior": 1, "posterior": 2},
    "file_ending": ".nii.gz",
}


def plans(class_name: str = "PlainConvUNet") -> dict[str, Any]:
    return {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {
            "3d_fullres": {
                "UNet_class_name": class_name,
                "UNet_base_num_features": 4,
                "unet_max_num_features": 12,
                "conv_kernel_sizes": CONFIG["kernel_sizes"],
                "pool_op_kernel_sizes": CONFIG["strides"],
                "n_conv_per_stage_encoder": CONFIG["n_conv_per_stage_encoder"],
                "n_conv_per_stage_decoder": CONFIG["n_conv_per_stage_decoder"],
                "patch_size": list(TILE),
                "spacing": [1.0, 1.0, 1.0],
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
            }
        },
        "foreground_intensity_properties_per_channel": {},
    }


def write_cascade(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """Write both trainings of a cascade, of one fold each; `changes` are the first's own plans."""
    import torch

    from segmaformer.models import create_model

    documents = plans()
    fine = documents["configurations"]["3d_fullres"]
    documents |= {"dataset_name": "Dataset001_Test"}
    documents["configurations"] |= {
        "3d_lowres": {**fine, "spacing": [2.0, 2.0, 2.0], "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    made = []
    for name, channels, own in (("3d_lowres", 1, changes), ("3d_cascade_fullres", 3, {})):
        torch.manual_seed(channels)
        model = create_model("nnunet-plain", **{**CONFIG, "input_channels": channels})
        training = folder / f"nnUNetTrainer__nnUNetPlans__{name}"
        (training / "fold_0").mkdir(parents=True)
        for file, content in (("plans", {**documents, **own}), ("dataset", DATASET)):
            (training / f"{file}.json").write_text(json.dumps(content))
        checkpoint = {
            "network_weights": model.state_dict(),
            "init_args": {"configuration": name},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, training / "fold_0" / "checkpoint_final.pth")
        made.append(training)
    return made[0], made[1]


def write_model_folder(
    folder: Path,
    folds: Sequence[str] = ("0", "1", "2"),
    *,
    name: str = "nnunet-plain",
    mirror_axes: Sequence[int] = (0, 1, 2),
) -> list[Any]:
    """Write folds with weights of their own and return their networks."""
    import torch

    from segmaformer.models import create_model

    class_name = {"nnunet-plain": "PlainConvUNet", "nnunet-resenc": "ResidualEncoderUNet"}[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans(class_name)))
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    models = []
    for index, fold in enumerate(folds):
        torch.manual_seed(index)
        model = create_model(name, **CONFIG).eval()
        (folder / f"fold_{fold}").mkdir()
        torch.save(
            {
                "network_weights": model.state_dict(),
                "init_args": {
                    "plans": plans(class_name),
                    "configuration": "3d_fullres",
                    "fold": fold,
                    "dataset_json": DATASET,
                },
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": tuple(mirror_axes),
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
        models.append(model)
    return models
