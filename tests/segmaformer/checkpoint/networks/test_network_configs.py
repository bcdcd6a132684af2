"""Configurations of the networks beside SegMaFormer, from weights alone or with plans."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from support.networks.published import published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.networks.segformer3d_config import segformer3d_config
from segmaformer.checkpoint.networks.segmamba_config import segmamba_config, segresmamba_config
from segmaformer.checkpoint.networks.taming_config import taming_config, taming_keys_of_plan
from segmaformer.checkpoint.recognition import ARCHITECTURES
from segmaformer.models import create_model
from segmaformer.runtime.errors import InputError

CASES = {
    "segformer3d_64": {},
    "segmamba_tom_64": {"nslices", "mamba_residual"},
    "segresmamba_64": {"use_tom"},
    "taming_segmamba": {"Stride of the first stage"},
    "taming_bisegmamba": {"Stride of the first stage"},
    "taming_segmambaskip": {"Stride of the first stage"},
}
OLD_PLAN: dict[str, Any] = {
    "UNet_base_num_features": 16,
    "unet_max_num_features": 64,
    "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2, 2],
    "patch_size": [16, 64, 64],
}
NEW_PLAN: dict[str, Any] = {
    "patch_size": [16, 64, 64],
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": (16, 32, 64, 64),
            "kernel_sizes": OLD_PLAN["conv_kernel_sizes"],
            "strides": OLD_PLAN["pool_op_kernel_sizes"],
            "n_conv_per_stage": [2, 2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2, 2],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        },
    },
}


def shapes_of(arch: str, **config: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = create_model(arch, **config)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_published_weights(golden_dir: Path, name: str) -> None:
    case = published_case(golden_dir, name)
    (row, *_) = (row for row in ARCHITECTURES if row.name == case.arch)
    config, assumptions = row.support.infer_config(case.shapes, trainer=None, given={})
    assert config == case.config
    for words in CASES[name]:
        assert any(words in sentence for sentence in assumptions)


def test_published_multisegmamba(golden_dir: Path) -> None:
    case = published_case(golden_dir, "taming_multisegmamba")
    config, _ = taming_config(case.shapes)
    # No stage is wider than 64 channels, so any larger limit means the same.
    assert config.pop("d_state_rule") == "min(channels, 256)"
    assert config == {k: v for k, v in case.config.items() if k != "d_state_rule"}
    shapes = shapes_of("taming-multisegmamba")
    assert taming_config(shapes)[0]["d_state_rule"] == "min(channels, 64)"


@pytest.mark.parametrize("use_tom", [True, False])
def test_what_segresmamba_weights_do_not_show(use_tom: bool) -> None:
    config, assumptions = segresmamba_config(
        shapes_of("segresmamba"), trainer=None, given={"use_tom": use_tom}
    )
    assert config["use_tom"] is use_tom
    assert any("nslices" in sentence for sentence in assumptions) is use_tom


def test_segmamba_residual_is_explained_and_settable() -> None:
    shapes = shapes_of("segmamba")
    config, assumptions = segmamba_config(shapes)
    assert config["mamba_residual"] is True
    assert any("5 June 2024" in sentence for sentence in assumptions)
    config, assumptions = segmamba_config(shapes, given={"mamba_residual": False})
    assert config["mamba_residual"] is False
    assert not any("mamba_residual" in sentence for sentence in assumptions)


def test_early_segmamba_has_two_orders_and_no_residual() -> None:
    shapes = shapes_of("segmamba", nslices=None, mlp_ratio=4)
    config, assumptions = segmamba_config(shapes)
    assert (config["nslices"], config["mamba_residual"], config["mlp_ratio"]) == (None, False, 4)
    assert any("two scan directions" in sentence for sentence in assumptions)


def test_first_segmamba_is_refused() -> None:
    with pytest.raises(InputError, match="before 7 March 2024"):
        segmamba_config({"vit.stages.0.0.mamba.A_b_log": (96, 16)})


@pytest.mark.parametrize(
    ("infer", "arch", "config"),
    [
        (segmamba_config, "segmamba", {"in_chans": 1, "depths": [1, 2, 3, 1], "d_state": 8}),
        (segmamba_config, "segmamba", {"feat_size": [8, 12, 16, 20], "hidden_size": 24}),
        (segresmamba_config, "segresmamba", {"out_chans": 5, "expand": 1, "d_conv": 3}),
        (segformer3d_config, "segformer3d", {"sr_ratios": [2, 1, 1, 1], "depths": [1, 2, 3, 4]}),
        (segformer3d_config, "segformer3d", {"mlp_ratios": [2, 2, 3, 4], "num_classes": 7}),
        (taming_config, "taming-segmamba", {"conv_bias": False, "d_conv": 3, "expand": 1}),
    ],
)
def test_other_sizes(infer: Any, arch: str, config: dict[str, Any]) -> None:
    found, _ = infer(shapes_of(arch, **config))
    assert {key: found[key] for key in config} == config


@pytest.mark.parametrize("plan", [OLD_PLAN, NEW_PLAN], ids=["old", "new"])
def test_plans_agree_with_the_weights(golden_dir: Path, plan: dict[str, Any]) -> None:
    case = published_case(golden_dir, "taming_segmamba")
    given = taming_keys_of_plan(plan)
    assert set(given) >= {"features_per_stage", "kernel_sizes", "strides"}
    config, assumptions = taming_config(case.shapes, given=given)
    assert config == case.config
    assert assumptions == ()


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("norm_op", "torch.nn.modules.batchnorm.BatchNorm3d", "norm_op is BatchNorm3d"),
        ("norm_op_kwargs", {"eps": 1e-3, "affine": True}, "norm_op_kwargs.eps is 0.001"),
        ("nonlin", "torch.nn.ReLU", "nonlin is ReLU; a Taming Mambas network has LeakyReLU"),
        ("nonlin_kwargs", {"negative_slope": 0.2}, "negative_slope is 0.2"),
        ("nonlin_kwargs", 3, "expected a dictionary"),
    ],
)
def test_blocks_that_the_networks_do_not_have(option: str, value: Any, complaint: str) -> None:
    plan = copy.deepcopy(NEW_PLAN)
    plan["architecture"]["arch_kwargs"][option] = value
    with pytest.raises(InputError, match=complaint):
        taming_keys_of_plan(plan)


def test_what_plans_say_of_the_published_blocks() -> None:
    plan = copy.deepcopy(NEW_PLAN)
    plan["architecture"]["arch_kwargs"] |= {
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        "dropout_op_kwargs": None,
    }
    assert taming_keys_of_plan(plan) == taming_keys_of_plan(NEW_PLAN)


def test_segformer3d_whose_axes_differ() -> None:
    kernels = [[3, 7, 7], 3, 3, 3]
    given = {"patch_stride": [[2, 4, 4], 2, 2, 2], "patch_padding": [[1, 3, 3], 1, 1, 1]}
    shapes = shapes_of("segformer3d", patch_kernel_size=kernels, **given)
    config, _ = segformer3d_config(shapes, given=given)
    assert config["patch_kernel_size"] == kernels
    with pytest.raises(InputError, match=r"\[3, 7, 7\] is not a published one.*give patch_stride"):
        segformer3d_config(shapes)


def test_sizes_that_the_weights_refute() -> None:
    shapes = shapes_of("segformer3d")
    with pytest.raises(InputError, match=r"depths \[9, 9, 9, 9\], but the weights"):
        segformer3d_config(shapes, given={"depths": [9, 9, 9, 9]})
    config, _ = segformer3d_config(shapes, given={"embed_dims": (32, 64, 160, 256)})
    assert config["embed_dims"] == (32, 64, 160, 256)


def test_first_stride_comes_from_the_plans(golden_dir: Path) -> None:
    plan = copy.deepcopy(OLD_PLAN)
    plan["pool_op_kernel_sizes"][0] = [1, 2, 2]
    case = published_case(golden_dir, "taming_segmamba")
    config, _ = taming_config(case.shapes, given=taming_keys_of_plan(plan))
    assert config["strides"][0] == [1, 2, 2]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("UNet_base_num_features", 8, r"features_per_stage \[8, 16, 32, 64\], but the weights"),
        ("conv_kernel_sizes", [[3, 3, 3]] * 4, "kernel_sizes"),
        ("pool_op_kernel_sizes", [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]], "strides"),
        ("n_conv_per_stage_encoder", [2, 2, 2, 3], "n_conv_per_stage_encoder"),
    ],
)
def test_plans_in_contradiction(golden_dir: Path, key: str, value: Any, message: str) -> None:
    case = published_case(golden_dir, "taming_segmamba")
    given = taming_keys_of_plan({**OLD_PLAN, key: value})
    with pytest.raises(InputError, match=message):
        taming_config(case.shapes, given=given)


@pytest.mark.parametrize("key", ["features_per_stage", "kernel_sizes", "strides"])
def test_plans_in_contradiction_to_themselves(key: str) -> None:
    plan = copy.deepcopy(NEW_PLAN)
    arguments = plan["architecture"]["arch_kwargs"]
    arguments[key] = arguments[key][:3]
    with pytest.raises(InputError, match=f"n_stages is 4, but {key} has 3 entries"):
        taming_keys_of_plan(plan)


@pytest.mark.parametrize(
    "plan",
    [
        {**OLD_PLAN, "conv_kernel_sizes": 3},
        {**OLD_PLAN, "pool_op_kernel_sizes": [[1, 1]]},
        {**OLD_PLAN, "unet_max_num_features": None},
        {**OLD_PLAN, "n_conv_per_stage_encoder": ["2"]},
        {"architecture": {"arch_kwargs": None}},
        {"architecture": "UNet"},
    ],
)
def test_malformed_plans(plan: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"plans.json"):
        taming_keys_of_plan(plan)


@pytest.mark.parametrize(
    ("infer", "arch", "key", "shape", "message"),
    [
        (segmamba_config, "segmamba", "out.conv.conv.weight", None, "lacks out.conv.conv.weight"),
        (segmamba_config, "segmamba", "vit.mlps.0.fc1.weight", (50, 48, 1, 1, 1), "multiple of 48"),
        (segresmamba_config, "segresmamba", "out.weight", (48, 3), "expected 5 axes"),
        (segformer3d_config, "segformer3d", "segformer_decoder.linear_pred.weight", None, "lacks"),
        (
            segformer3d_config,
            "segformer3d",
            "segformer_encoder.embed_1.patch_embeddings.weight",
            (32, 4, 5, 5, 5),
            "kernel 5 is not a published one",
        ),
        (
            segformer3d_config,
            "segformer3d",
            "segformer_encoder.embed_4.patch_embeddings.weight",
            (250, 160, 3, 3, 3),
            "multiple of 250|do not divide",
        ),
        (taming_config, "taming-segmamba", "decoder.seg_layers.0.weight", None, "lacks"),
        (taming_config, "taming-segmamba", "decoder.transpconvs.0.weight", (0,) * 5, "empty"),
    ],
)
def test_damaged_weights(
    infer: Any, arch: str, key: str, shape: tuple[int, ...] | None, message: str
) -> None:
    shapes = shapes_of(arch)
    if shape is None:
        del shapes[key]
    else:
        shapes[key] = shape
    with pytest.raises(InputError, match=message):
        infer(shapes)


def test_a_kernel_that_differs_between_axes_has_no_published_stride() -> None:
    given = {"patch_kernel_size": [[7, 7, 3], 3, 3, 3]}
    with pytest.raises(InputError, match=r"kernel \[7, 7, 3\] is not .* give patch_stride"):
        segformer3d_config(shapes_of("segformer3d"), given=given)
    complete = {**given, "patch_stride": [4, 2, 2, 2], "patch_padding": [3, 1, 1, 1]}
    config, _ = segformer3d_config(shapes_of("segformer3d"), given=complete)
    assert config.items() >= complete.items()


def test_settings_in_contradiction_to_the_weights() -> None:
    with pytest.raises(InputError, match="d_state 4, but the weights are of a SegMamba"):
        segmamba_config(shapes_of("segmamba"), given={"d_state": 4})
