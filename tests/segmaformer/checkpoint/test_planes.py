"""2-D networks of nnU-Net and U-Mamba, which run as 3-D ones of one voxel in depth."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import load_checkpoint
from segmaformer.models import create_model
from segmaformer.runtime.errors import InputError

TILE = (1, 32, 24)
CONFIG: dict[str, Any] = {
    "input_channels": 1,
    "num_classes": 3,
    "features_per_stage": [4, 8, 12, 16],
    "kernel_sizes": [[1, 3, 3]] * 4,
    "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2], [1, 2, 1]],
    "n_conv_per_stage_encoder": [2, 2, 1, 1],
    "n_conv_per_stage_decoder": [2, 2, 1],
}
PLANAR = {"umamba-bot": {"planar": True}, "umamba-enc": {"planar": True, "input_size": list(TILE)}}
NETWORKS = ("nnunet-plain", "nnunet-resenc", *PLANAR)
PLAN: dict[str, Any] = {
    "patch_size": [32, 24],
    "spacing": [0.8, 1.2],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "conv_kernel_sizes": [[3, 3]] * 4,
    "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2], [2, 1]],
    "n_conv_per_stage_encoder": [2, 2, 1, 1],
    "n_conv_per_stage_decoder": [2, 2, 1],
}
NEW_PLAN = {
    **{key: PLAN[key] for key in list(PLAN)[:4]},
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [4, 8, 12, 16],
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": PLAN["conv_kernel_sizes"],
            "strides": PLAN["pool_op_kernel_sizes"],
            "n_conv_per_stage": [2, 2, 1, 1],
            "n_conv_per_stage_decoder": [2, 2, 1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
    },
}


def network(name: str) -> Any:
    torch.manual_seed(0)
    return create_model(name, **CONFIG, **PLANAR.get(name, {})).eval()


def write(path: Path, model: Any, plan: dict[str, Any], **changes: Any) -> Path:
    """Write a checkpoint as nnU-Net does: 2-D kernels have two axes."""
    weights = {
        key: value.squeeze(2) if value.ndim == 5 and value.shape[2] == 1 else value
        for key, value in model.state_dict().items()
    }
    plans = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"2d": plan},
    }
    dataset = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1, "b": 2}}
    content = {
        "network_weights": weights,
        "init_args": {"plans": plans, "configuration": "2d", "dataset_json": dataset},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        **changes,
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("plan", [PLAN, NEW_PLAN], ids=["old", "new"])
def test_a_slice_gives_the_same_logits(tmp_path: Path, name: str, plan: dict[str, Any]) -> None:
    model = network(name)
    checkpoint = load_checkpoint(write(tmp_path / "checkpoint_final.pth", model, plan))
    assert checkpoint.arch == name
    assert checkpoint.tiling.tile == TILE
    assert checkpoint.tiling.mirror_axes == (1, 2)
    assert checkpoint.preprocessing.spacing == (None, 0.8, 1.2)
    volume = torch.randn(2, 1, *TILE)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(volume), model(volume))


def test_weights_alone_take_a_tile_of_one_slice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", network("nnunet-plain"), PLAN, init_args={})
    assert load_checkpoint(path, patch_size=TILE).tiling.tile == TILE
    with pytest.raises(InputError, match="2-D, but the tile is 8x32x24; expected 1 voxel in depth"):
        load_checkpoint(path, patch_size=(8, 32, 24))


def test_plans_of_other_axes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", network("nnunet-plain"), {**PLAN, "patch_size": [8, 32, 24]})
    with pytest.raises(InputError, match=r"patch_size \[8, 32, 24\], but the network is 2-D"):
        load_checkpoint(path)
    deep = copy.deepcopy(CONFIG)
    deep["kernel_sizes"] = [[3, 3, 3]] * 4
    path = write(tmp_path / "b.pth", create_model("nnunet-plain", **deep), PLAN)
    with pytest.raises(InputError, match=r"patch_size \[32, 24\], but the network is 3-D"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"spacing": [5.0, 0.8, 1.2]}, "spacing has 3 entries"),
        ({"spacing": [0.8, 0]}, "expected positive millimetres"),
        ({"conv_kernel_sizes": [[3, 3, 3]] * 4}, "conv_kernel_sizes has 3 entries"),
        ({"pool_op_kernel_sizes": [[1, 1], [2, 2]]}, "strides"),
    ],
)
def test_plans_that_contradict_themselves(tmp_path: Path, change: Any, complaint: str) -> None:
    path = write(tmp_path / "a.pth", network("nnunet-plain"), {**PLAN, **change})
    with pytest.raises(InputError, match=complaint):
        load_checkpoint(path)


def test_axes_beyond_a_plane_are_refused(tmp_path: Path) -> None:
    model, axes = network("nnunet-plain"), (0, 2)
    path = write(tmp_path / "a.pth", model, PLAN, inference_allowed_mirroring_axes=axes)
    with pytest.raises(InputError, match=r"mirrors the axes \[0, 2\], but its network is 2-D"):
        load_checkpoint(path)
