from __future__ import annotations

from pathlib import Path

import pytest
from published import SEGMAFORMER_CASES, published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.recognition import ARCHITECTURES, recognise
from segmaformer.models import list_models
from segmaformer.runtime.errors import InputError

SEGMAFORMER = ["encoder.embed_1.proj.weight", "decoder.linears.0.proj.weight", "decoder.pred.bias"]
SKIP = ["encoder.mamba_layers.0.mamba.fwd_mamba.mamba.A_log"]

BOTH_WAYS = {
    "taming_bisegmamba": ("taming-bisegmamba", "nnUNetTrainerPanSegMamba"),
    "taming_segmambaskip": ("taming-segmambaskip", "nnUNetTrainerSegMambaSkip"),
}


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "network.", "model._orig_mod.", "a.b."])
@pytest.mark.parametrize("arch", [None, "segmaformer"])
def test_segmaformer_behind_any_prefix(prefix: str, arch: str | None) -> None:
    found = recognise([prefix + key for key in SEGMAFORMER] + ["loss.weight"], arch=arch)
    assert (found.name, found.prefix) == ("segmaformer", prefix)


def test_every_network_that_can_be_built_is_supported() -> None:
    assert {row.name for row in ARCHITECTURES} == set(list_models())


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("segformer3d_64", "segformer3d"),
        ("segmamba_tom_64", "segmamba"),
        ("segresmamba_64", "segresmamba"),
        ("taming_segmamba", "taming-segmamba"),
        ("taming_multisegmamba", "taming-multisegmamba"),
    ],
)
def test_published_networks(golden_dir: Path, name: str, arch: str) -> None:
    keys = published_case(golden_dir, name).shapes
    assert recognise(keys).name == arch
    assert recognise([f"model.{key}" for key in keys]).prefix == "model."


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_trainer_decides_between_networks_of_the_same_weights(golden_dir: Path, name: str) -> None:
    keys = published_case(golden_dir, name).shapes
    arch, trainer = BOTH_WAYS[name]
    assert recognise(keys, trainer=trainer).name == arch
    assert recognise(keys, arch=arch).name == arch


@pytest.mark.parametrize(
    ("trainer", "found"),
    [(None, "names no trainer"), ("nnUNetTrainer", "names the trainer nnUNetTrainer")],
)
def test_nobody_decides_between_networks_of_the_same_weights(
    trainer: str | None, found: str
) -> None:
    with pytest.raises(InputError) as refusal:
        recognise(SKIP, trainer=trainer)
    assert found in str(refusal.value)
    assert "(arch: taming-bisegmamba or taming-segmambaskip)" in str(refusal.value)


def test_two_networks_in_one_checkpoint() -> None:
    keys = [*SEGMAFORMER, "teacher.vit.stages.0.0.mamba.A_b_log"]
    with pytest.raises(InputError, match="SegMaFormer and SegMamba; save the weights of one"):
        recognise(keys)
    assert recognise(keys, arch="segmamba").prefix == "teacher."


@pytest.mark.parametrize("name", SEGMAFORMER_CASES)
def test_published_segmaformer(golden_dir: Path, name: str) -> None:
    found = recognise(published_case(golden_dir, name).shapes)
    assert (found.name, found.prefix) == ("segmaformer", "")


@pytest.mark.parametrize(
    "keys",
    [
        ["conv.weight", "conv.bias"],
        ["encoder.embed_1.proj.weight"],
        ["myencoder.embed_1.proj.weight", "mydecoder.linears.0.proj.weight"],
        ["a.encoder.embed_1.proj.weight", "b.decoder.linears.0.proj.weight"],
    ],
)
def test_stranger_is_told_what_was_looked_for(keys: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        recognise(keys)
    assert "encoder.embed_1.proj.weight and decoder.linears.0.proj.weight" in str(refusal.value)
    assert f"found {', '.join(keys)}" in str(refusal.value)


def test_long_key_lists_are_cut() -> None:
    with pytest.raises(InputError, match=r"found k0, k1, k2, k3, k4 and 95 more$"):
        recognise(f"k{number}" for number in range(100))


def test_wrong_expectation() -> None:
    with pytest.raises(InputError, match="this is a SegMaFormer checkpoint, not segmamba"):
        recognise(SEGMAFORMER, arch="segmamba")


def test_unknown_expectation() -> None:
    with pytest.raises(ValueError, match="unknown network 'unet'; known: segmaformer, "):
        recognise(SEGMAFORMER, arch="unet")
