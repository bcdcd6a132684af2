"""Configurations of nnU-Net's own networks, from weights and from plans of either form."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.aliases import drop_aliases
from segmaformer.checkpoint.networks.nnunet_config import (
    nnunet_keys_of_plan,
    plain_config,
    resenc_config,
)
from segmaformer.checkpoint.recognition import decide, find_networks
from segmaformer.checkpoint.strict import load_weights
from segmaformer.models import create_model
from segmaformer.runtime.errors import InputError

READ = {"nnunet-plain": plain_config, "nnunet-resenc": resenc_config}
SMALL: dict[str, Any] = {
    "input_channels": 2,
    "num_classes": 3,
    "features_per_stage": [8, 16, 24],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [2, 3, 1],
    "n_conv_per_stage_decoder": [1, 2],
}
OLD_PLAN: dict[str, Any] = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 8,
    "unet_max_num_features": 24,
    "conv_kernel_sizes": SMALL["kernel_sizes"],
    "pool_op_kernel_sizes": SMALL["strides"],
    "n_conv_per_stage_encoder": [2, 3, 1],
    "n_conv_per_stage_decoder": [1, 2],
}


def new_plan(blocks: str = "n_conv_per_stage", **changes: Any) -> dict[str, Any]:
    arguments = {
        "n_stages": 3,
        "features_per_stage": [8, 16, 24],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": SMALL["kernel_sizes"],
        "strides": SMALL["strides"],
        blocks: [2, 3, 1],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **changes,
    }
    return {"architecture": {"network_class_name": "PlainConvUNet", "arch_kwargs": arguments}}


def shapes_of(name: str, **config: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = create_model(name, **{**SMALL, **config})
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "norm", "bias"),
    list(itertools.product(READ, ["instance", "batch"], [True, False])),
)
def test_weights_show_the_network(name: str, norm: str, bias: bool) -> None:
    shapes = shapes_of(name, norm=norm, conv_bias=bias)
    (found,) = find_networks(shapes)
    row = decide(found, arch=None, trainer=None)
    config, assumptions = row.support.infer_config(shapes, trainer=None, given={})
    assert row.name == name
    assert {**SMALL, "norm": norm, "conv_bias": bias}.items() <= config.items()
    assert len(assumptions) == 2


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("nnunet-plain", OLD_PLAN),
        ("nnunet-plain", new_plan()),
        ("nnunet-resenc", {**OLD_PLAN, "UNet_class_name": "ResidualEncoderUNet"}),
        ("nnunet-resenc", new_plan("n_blocks_per_stage")),
    ],
)
def test_plans_agree_with_the_weights(name: str, plan: dict[str, Any]) -> None:
    config, assumptions = READ[name](shapes_of(name), given=nnunet_keys_of_plan(plan))
    assert SMALL.items() <= config.items()
    assert assumptions == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"norm_op": "torch.nn.BatchNorm3d"}, {"norm": "batch"}),
        ({"norm_op_kwargs": {"eps": 0.001}}, {"norm_eps": 0.001}),
        ({"nonlin": "torch.nn.ReLU"}, {"negative_slope": 0.0}),
        ({"nonlin_kwargs": {"negative_slope": 0.2}}, {"negative_slope": 0.2}),
        ({"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.5}}, {}),
    ],
)
def test_blocks_that_plans_choose(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    stated = nnunet_keys_of_plan(new_plan(**changes))
    usual = {"norm": "instance", "norm_eps": 1e-5, "negative_slope": 0.01}
    assert {**usual, **expected}.items() <= stated.items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_op": "os.system"}, "norm_op is system; known: InstanceNorm3d, BatchNorm3d"),
        ({"norm_op": None}, "norm_op is None"),
        ({"nonlin": "torch.nn.GELU"}, "nonlin is GELU; known: LeakyReLU, ReLU"),
        ({"nonlin_first": True}, "nonlin_first is True"),
        ({"squeeze_excitation": True}, "squeeze_excitation is True"),
        ({"norm_op_kwargs": {"affine": False}}, "norms without scale and shift"),
        ({"norm_op_kwargs": [1]}, "norm_op_kwargs"),
        ({"n_stages": 4}, "n_stages is 4"),
    ],
)
def test_blocks_that_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nnunet_keys_of_plan(new_plan(**changes))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]]}, "strides"),
        ({"features_per_stage": [8, 16, 32]}, "features_per_stage"),
        ({"norm": "batch"}, "norm"),
    ],
)
def test_plans_of_another_training(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plain_config(shapes_of("nnunet-plain"), given=given)


def test_two_dimensional_ones_are_named() -> None:
    shapes = {key: shape[:-1] for key, shape in shapes_of("nnunet-plain").items()}
    with pytest.raises(InputError, match="this is a 2-D U-Net"):
        plain_config(shapes)


@pytest.mark.parametrize("name", READ)
def test_batch_norm_statistics_are_weights(name: str) -> None:
    model = create_model(name, **SMALL, norm="batch")
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for key, tensor in list(weights.items()):
        if key.endswith("running_var"):
            tensor.fill_(3)
        if ".conv." in key:
            weights[key.replace(".conv.", ".all_modules.0.")] = tensor
        if ".norm." in key:
            weights[key.replace(".norm.", ".all_modules.1.")] = tensor
    load_weights(model, drop_aliases(weights))
    assert all((v == 3).all() for k, v in model.state_dict().items() if k.endswith("running_var"))


@pytest.mark.parametrize(
    ("name", "class_name", "blocks"),
    [
        ("nnunet-plain", "PlainConvUNet", "n_conv_per_stage"),
        ("nnunet-resenc", "ResidualEncoderUNet", "n_blocks_per_stage"),
    ],
)
def test_the_authors_network(name: str, class_name: str, blocks: str) -> None:
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    torch.manual_seed(0)
    theirs = getattr(unet, class_name)(
        input_channels=2,
        num_classes=3,
        n_stages=3,
        features_per_stage=SMALL["features_per_stage"],
        conv_op=torch.nn.Conv3d,
        kernel_sizes=SMALL["kernel_sizes"],
        strides=SMALL["strides"],
        n_conv_per_stage_decoder=SMALL["n_conv_per_stage_decoder"],
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        **{blocks: SMALL["n_conv_per_stage_encoder"]},
    ).eval()
    ours = create_model(name, **SMALL).eval()
    load_weights(ours, drop_aliases(theirs.state_dict()))
    volume = torch.randn(1, 2, 4, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(ours(volume), theirs(volume))
