"""Configurations of U-Mamba from weights, and the plans that go with them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from support.networks.nnunet_folders import DATASET, plans
from support.networks.published import published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import load_checkpoint
from segmaformer.checkpoint.networks.network_tiles import check_umamba_tile
from segmaformer.checkpoint.networks.umamba_config import (
    umamba_bot_config,
    umamba_bot_keys_of_plan,
    umamba_enc_config,
    umamba_enc_keys_of_plan,
)
from segmaformer.checkpoint.recognition import decide, find_networks
from segmaformer.models import create_model
from segmaformer.runtime.errors import InputError

OLD_PLAN: dict[str, Any] = {
    "UNet_base_num_features": 16,
    "unet_max_num_features": 64,
    "conv_kernel_sizes": [[3, 3, 3]] * 4,
    "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2, 2],
    "patch_size": [32, 32, 32],
    "spacing": [1.0, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"] * 2,
    "use_mask_for_norm": [False] * 2,
}
NEW_PLAN: dict[str, Any] = {
    "patch_size": [32, 32, 32],
    "architecture": {
        "network_class_name": "architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [16, 32, 64, 64],
            "kernel_sizes": OLD_PLAN["conv_kernel_sizes"],
            "strides": OLD_PLAN["pool_op_kernel_sizes"],
            "n_blocks_per_stage": [2, 2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2, 2],
            "conv_bias": False,
            "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
        },
    },
}
READ = {"umamba-bot": umamba_bot_config, "umamba-enc": umamba_enc_config}
KEYS = {"umamba-bot": umamba_bot_keys_of_plan, "umamba-enc": umamba_enc_keys_of_plan}
SMALL: dict[str, Any] = {
    "input_channels": 2,
    "num_classes": 3,
    "features_per_stage": [16, 32, 64, 64],
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": OLD_PLAN["pool_op_kernel_sizes"],
    "n_conv_per_stage_encoder": [2, 2, 1, 1],
    "n_conv_per_stage_decoder": [2, 2, 1],
}


def network(name: str, generation: int = 2, **config: Any) -> Any:
    tile = {"input_size": [32, 32, 32]} if name == "umamba-enc" else {}
    return create_model(name, **{**SMALL, **tile, **config}, generation=generation)


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", ["umamba_bot", "umamba_enc"])
def test_published_configuration(golden_dir: Path, name: str) -> None:
    case = published_case(golden_dir, name)
    plan = {key: case.config[key] for key in ("strides", "input_size") if key in case.config}
    config, assumptions = READ[case.arch](case.shapes, given=plan)
    assert {key: config[key] for key in case.config} == case.config
    assert assumptions == ()


@pytest.mark.parametrize("plan", [OLD_PLAN, NEW_PLAN], ids=["old plan", "new plan"])
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", READ)
def test_plans_of_either_form(name: str, generation: int, plan: dict[str, Any]) -> None:
    depths = {} if generation == 2 else {"n_conv_per_stage_encoder": [2] * 4}
    depths |= {} if generation == 2 else {"n_conv_per_stage_decoder": [2] * 3}
    model = network(name, generation, **depths)
    config, _ = READ[name](shapes_of(model), given=KEYS[name](plan))
    assert config == model.config


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", READ)
def test_told_apart_by_their_names(name: str, generation: int) -> None:
    names = list(shapes_of(network(name, generation)))
    repeated = [f"decoder.{key}" for key in names if key.startswith("encoder.")]
    (found,) = find_networks([*names, *repeated])
    assert decide(found, arch=None, trainer=None).name == name


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("umamba-bot", {"strides": None}, "do not show its strides"),
        ("umamba-enc", {"input_size": None}, "by the tile of its training"),
        ("umamba-enc", {"input_size": [16, 32, 32]}, "tokens of 32 features, its voxels"),
        ("umamba-bot", {"strides": [[1, 1, 1]]}, "strides"),
        ("umamba-bot", {"n_conv_per_stage_decoder": [1, 2, 2]}, "n_conv_per_stage_decoder"),
    ],
)
def test_plans_that_do_not_fit(name: str, change: dict[str, Any], message: str) -> None:
    given = {**KEYS[name](OLD_PLAN), **change}
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(InputError, match=message):
        READ[name](shapes_of(network(name, features_per_stage=[16, 32, 64, 64])), given=given)


def test_plans_of_another_network(tmp_path: Path) -> None:
    """A network of the second generation, whose weights do not show its strides."""
    documents = plans()
    plan = documents["configurations"]["3d_fullres"]
    plan |= OLD_PLAN
    recorded = copy.deepcopy(documents)
    dataset = {**DATASET, "channel_names": {"0": "T1", "1": "T2"}}
    document = {
        "network_weights": network("umamba-bot").state_dict(),
        "init_args": {"plans": recorded, "configuration": "3d_fullres", "dataset_json": dataset},
        "trainer_name": "nnUNetTrainerUMambaBot",
    }
    torch.save(document, tmp_path / "checkpoint_final.pth")
    (tmp_path / "plans.json").write_text(json.dumps(documents))
    path = tmp_path / "plans.json"
    assert load_checkpoint(tmp_path / "checkpoint_final.pth", plans=path).arch == "umamba-bot"
    plan["pool_op_kernel_sizes"] = [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 2, 2]]
    path.write_text(json.dumps(documents))
    with pytest.raises(InputError, match=r"says strides=.* but the checkpoint records \[\[1"):
        load_checkpoint(tmp_path / "checkpoint_final.pth", plans=path)


def test_two_dimensional_ones_are_named() -> None:
    shapes = {
        key: shape[:-1] if len(shape) == 5 else shape
        for key, shape in shapes_of(network("umamba-bot")).items()
    }
    with pytest.raises(InputError, match="2-D U-Mamba"):
        umamba_bot_config(shapes, given={"strides": SMALL["strides"]})


def test_channel_tokens_take_one_tile_alone() -> None:
    config = network("umamba-enc", features_per_stage=[16, 32, 64, 64]).config
    check_umamba_tile(config, (32, 32, 32))
    with pytest.raises(InputError, match="takes 32x32x32 alone"):
        check_umamba_tile(config, (64, 32, 32))
    with pytest.raises(InputError, match="not a multiple of 8x8x8"):
        check_umamba_tile(config, (33, 32, 32))


@pytest.mark.parametrize("name", READ)
def test_nnunet_checkpoint_with_its_aliases(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model = network(name)
    weights = dict(model.state_dict())
    for key in list(weights):
        if key.startswith("encoder."):
            weights[f"decoder.{key}"] = weights[key]
    for key in list(weights):
        if ".conv.weight" in key and "upsample" not in key:
            weights[key.replace(".conv.", ".all_modules.0.")] = weights[key]
    plans = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"3d_fullres": OLD_PLAN},
        "foreground_intensity_properties_per_channel": {},
    }
    torch.save(
        {
            "network_weights": weights,
            "init_args": {
                "plans": plans,
                "configuration": "3d_fullres",
                "dataset_json": {
                    "channel_names": {"0": "T1", "1": "T2"},
                    "labels": {"background": 0, "a": 1, "b": 2},
                    "file_ending": ".nii.gz",
                },
            },
            "trainer_name": "nnUNetTrainerUMambaEnc",
        },
        tmp_path / "checkpoint_final.pth",
    )
    checkpoint = load_checkpoint(tmp_path / "checkpoint_final.pth")
    assert checkpoint.arch == name
    assert checkpoint.tiling.tile == (32, 32, 32)
    volume = torch.randn(1, 2, 32, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(volume), model.eval()(volume))
