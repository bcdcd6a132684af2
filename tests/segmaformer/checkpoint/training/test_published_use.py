"""Checkpoints of the published networks, from file to network and its use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.networks.published import published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import load_checkpoint
from segmaformer.checkpoint.training.published_use import PUBLISHED, published_use
from segmaformer.models import create_model
from segmaformer.runtime.errors import InputError

SMALL: dict[str, dict[str, Any]] = {
    "segformer3d": {
        "embed_dims": [8, 8, 10, 16],
        "depths": [1] * 4,
        "decoder_head_embedding_dim": 8,
    },
    "segmamba": {"feat_size": [4] * 4, "hidden_size": 8, "depths": [1] * 4, "d_state": 2},
    "segresmamba": {"feat_size": [8] * 4, "d_state": 2},
}
TAMING: dict[str, Any] = {
    "num_classes": 3,
    "features_per_stage": [4, 6],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage_encoder": [1, 2],
    "n_conv_per_stage_decoder": [1],
}


def small_weights(arch: str, config: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(create_model(arch, **config).state_dict())


def save(folder: Path, document: Any) -> Path:
    torch.save(document, folder / "weights.pth")
    return folder / "weights.pth"


def mentions(assumptions: tuple[str, ...], words: str) -> bool:
    return any(words in sentence for sentence in assumptions)


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("wrapper", [None, "module"])
def test_weights_alone_are_used_as_published(
    tmp_path: Path, arch: str, wrapper: str | None
) -> None:
    weights = small_weights(arch, SMALL[arch])
    checkpoint = load_checkpoint(save(tmp_path, {wrapper: weights} if wrapper else weights))
    published = PUBLISHED[arch]
    assert checkpoint.arch == arch
    assert checkpoint.preprocessing == published.preprocessing
    assert checkpoint.tiling == published.tiling
    assert checkpoint.in_painting_order().output == published.output
    assert set(published.sentences) <= set(checkpoint.assumptions)


@pytest.mark.parametrize("arch", ["segformer3d", "segresmamba"])
def test_whole_tumor_comes_first_in_a_package(tmp_path: Path, arch: str) -> None:
    weights = small_weights(arch, SMALL[arch])
    checkpoint = load_checkpoint(save(tmp_path, weights))
    as_saved = create_model(arch, **checkpoint.config).eval()
    as_saved.load_state_dict(weights)
    tiles = torch.randn(1, 4, 32, 32, 64)
    painted = checkpoint.in_painting_order()
    with torch.inference_mode():
        expected = as_saved(tiles)
        torch.testing.assert_close(checkpoint.model(tiles), expected)
        torch.testing.assert_close(painted.model(tiles), expected[:, [1, 0, 2]])
    parts = ["tumor core", "whole tumor", "enhancing tumor"]
    assert [region.name for region in checkpoint.output.regions] == parts
    assert [region.name for region in painted.output.regions] == [parts[1], parts[0], parts[2]]
    assert painted.labels == checkpoint.labels
    assert painted.in_painting_order() is painted


def test_other_outputs_are_not_taken_for_the_published_ones(tmp_path: Path) -> None:
    config = {**SMALL["segmamba"], "out_chans": 2, "in_chans": 1}
    checkpoint = load_checkpoint(save(tmp_path, small_weights("segmamba", config)))
    assert published_use("segmamba", 1, 2) is None
    assert checkpoint.output.channels == 2
    assert checkpoint.known_tiling is None
    assert published_use("taming-segmamba", 1, 14) is None


def test_given_tile_replaces_the_published_one(tmp_path: Path) -> None:
    path = save(tmp_path, small_weights("segmamba", SMALL["segmamba"]))
    checkpoint = load_checkpoint(path, patch_size=(64, 64, 96))
    assert checkpoint.tiling.tile == (64, 64, 96)
    assert checkpoint.tiling.scheme == "monai"
    assert mentions(checkpoint.assumptions, "although the published one is (128, 128, 128)")
    with pytest.raises(InputError, match="valid patch_size is 64,64,112"):
        load_checkpoint(path, patch_size=(64, 64, 100))


def test_settings_reach_the_network(tmp_path: Path) -> None:
    path = save(tmp_path, small_weights("segmamba", SMALL["segmamba"]))
    assert mentions(load_checkpoint(path).assumptions, "mamba_residual=false")
    checkpoint = load_checkpoint(path, config={"mamba_residual": False})
    assert checkpoint.model.vit.stages[0][0].residual is False


def with_aliases(weights: dict[str, Any]) -> dict[str, Any]:
    """Repeat weights as the authors' code does."""
    repeated = dict(weights)
    for key, tensor in weights.items():
        for name, number in ((".conv.", ".all_modules.0."), (".norm.", ".all_modules.1.")):
            if name in key and ".mamba" not in key:
                repeated[key.replace(name, number)] = tensor
    for key in [key for key in repeated if key.startswith("encoder.")]:
        repeated[f"decoder.{key}"] = repeated[key]
    return repeated


def taming_document(arch: str, trainer: str | None) -> dict[str, Any]:
    plan = {
        "patch_size": [4, 8, 8],
        "spacing": [3.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "conv_kernel_sizes": TAMING["kernel_sizes"],
        "pool_op_kernel_sizes": TAMING["strides"],
        "n_conv_per_stage_encoder": [1, 2],
        "n_conv_per_stage_decoder": [1],
    }
    return {
        "network_weights": with_aliases(small_weights(arch, TAMING)),
        "trainer_name": trainer,
        "init_args": {
            "plans": {"transpose_forward": [0, 1, 2], "configurations": {"3d_fullres": plan}},
            "configuration": "3d_fullres",
            "dataset_json": {
                "channel_names": {"0": "MR"},
                "labels": {"background": 0, "a": 1, "b": 2},
            },
        },
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


@pytest.mark.parametrize(
    ("arch", "trainer"),
    [
        ("taming-segmamba", "nnUNetTrainerSegMamba"),
        ("taming-bisegmamba", "nnUNetTrainerPanSegMamba"),
        ("taming-multisegmamba", "nnUNetTrainerMultiSegMamba"),
        ("taming-segmambaskip", "nnUNetTrainerSegMambaSkip"),
    ],
)
def test_taming_checkpoints(tmp_path: Path, arch: str, trainer: str) -> None:
    document = taming_document(arch, trainer)
    checkpoint = load_checkpoint(save(tmp_path, document))
    assert checkpoint.arch == arch
    assert checkpoint.tiling.tile == (4, 8, 8)
    original = small_weights(arch, TAMING)
    loaded = checkpoint.model.state_dict()
    assert list(loaded) == list(original)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in original.items())


def test_taming_without_a_trainer(tmp_path: Path) -> None:
    path = save(tmp_path, taming_document("taming-segmambaskip", None))
    with pytest.raises(InputError, match="arch: taming-bisegmamba or taming-segmambaskip"):
        load_checkpoint(path)
    assert load_checkpoint(path, arch="taming-segmambaskip").arch == "taming-segmambaskip"


def test_taming_plans_in_contradiction(tmp_path: Path) -> None:
    document = taming_document("taming-segmamba", None)
    plan = document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plan["UNet_base_num_features"] = 6
    with pytest.raises(InputError, match=r"features_per_stage \[6, 6\], but the weights are"):
        load_checkpoint(save(tmp_path, document))


def test_taming_tile_of_the_plans(tmp_path: Path) -> None:
    document = taming_document("taming-segmamba", None)
    document["init_args"]["plans"]["configurations"]["3d_fullres"]["patch_size"] = [5, 8, 8]
    with pytest.raises(InputError, match="valid patch_size is 6,8,8"):
        load_checkpoint(save(tmp_path, document))


def test_published_weights_compute_what_was_published(golden_dir: Path, tmp_path: Path) -> None:
    case = published_case(golden_dir, "taming_multisegmamba")
    weights = case.load_into(create_model(case.arch, **case.config)).state_dict()
    checkpoint = load_checkpoint(save(tmp_path, {"network_weights": with_aliases(weights)}))
    with torch.inference_mode():
        logits = checkpoint.model(torch.from_numpy(case.tiles)).numpy()
    assert case.error(logits) <= 4
