from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from support.networks.published import SEGMAFORMER_CASES, published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.recognition import (
    ARCHITECTURES,
    Recognised,
    check_arch,
    decide,
    find_networks,
    stranger,
    without_wrappers,
)
from segmaformer.models import list_models
from segmaformer.runtime.errors import InputError

SEGMAFORMER = ["encoder.embed_1.proj.weight", "decoder.linears.0.proj.weight", "decoder.pred.bias"]
SKIP = ["encoder.mamba_layers.0.mamba.fwd_mamba.mamba.A_log"]

BOTH_WAYS = {
    "taming_bisegmamba": ("taming-bisegmamba", "nnUNetTrainerPanSegMamba"),
    "taming_segmambaskip": ("taming-segmambaskip", "nnUNetTrainerSegMambaSkip"),
}


def only(names: Iterable[str]) -> Recognised:
    (found,) = find_networks(names)
    return found


def recognise(names: Iterable[str], arch: str | None = None, trainer: str | None = None) -> str:
    return decide(only(names), arch=arch, trainer=trainer).name


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "network.", "model._orig_mod.", "a.b."])
@pytest.mark.parametrize("arch", [None, "segmaformer"])
def test_segmaformer_behind_any_prefix(prefix: str, arch: str | None) -> None:
    names = [prefix + key for key in SEGMAFORMER] + ["loss.weight"]
    assert only(names).prefix == prefix
    assert recognise(names, arch=arch) == "segmaformer"


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module"])
def test_wrappers_within_names(wrapper: str) -> None:
    names = [key.replace(".", f".{wrapper}.", 2) for key in SEGMAFORMER]
    assert only([f"model.{name}" for name in names]).prefix == "model."
    assert [without_wrappers(name) for name in names] == SEGMAFORMER


def test_every_copy_of_a_network_is_found() -> None:
    names = [f"{prefix}{key}" for prefix in ("", "ema.", "model.ema.") for key in SEGMAFORMER]
    assert [each.prefix for each in find_networks(names)] == ["", "ema.", "model.ema."]


def test_many_names_take_no_longer_than_they_are() -> None:
    """Every prefix is looked at once, not once for every name."""
    names = [f"p{number}.{SEGMAFORMER[0]}" for number in range(100_000)]
    assert find_networks(names) == []


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
    assert recognise(keys) == arch
    assert only([f"model.{key}" for key in keys]).prefix == "model."


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_trainer_decides_between_networks_of_the_same_weights(golden_dir: Path, name: str) -> None:
    keys = published_case(golden_dir, name).shapes
    arch, trainer = BOTH_WAYS[name]
    assert recognise(keys, trainer=trainer) == arch
    assert recognise(keys, arch=arch) == arch


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


def test_two_networks_under_one_prefix() -> None:
    keys = [*SEGMAFORMER, "vit.stages.0.0.mamba.A_b_log"]
    with pytest.raises(InputError, match="several networks under one prefix, SegMaFormer and Seg"):
        recognise(keys)
    assert recognise(keys, arch="segmamba") == "segmamba"


@pytest.mark.parametrize("name", SEGMAFORMER_CASES)
def test_published_segmaformer(golden_dir: Path, name: str) -> None:
    shapes = published_case(golden_dir, name).shapes
    assert (recognise(shapes), only(shapes).prefix) == ("segmaformer", "")


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
    assert find_networks(keys) == []
    assert "encoder.embed_1.proj.weight and decoder.linears.0.proj.weight" in stranger(keys)
    assert f"found {', '.join(keys)}" in stranger(keys)


def test_long_key_lists_are_cut() -> None:
    told = stranger(f"k{number}" for number in range(100))
    assert told.endswith("found k0, k1, k2, k3, k4 and 95 more")


def test_wrong_expectation() -> None:
    with pytest.raises(InputError, match="this is a SegMaFormer checkpoint, not segmamba"):
        recognise(SEGMAFORMER, arch="segmamba")


def test_unknown_expectation() -> None:
    with pytest.raises(ValueError, match="unknown network 'unet'; known: segmaformer, "):
        check_arch("unet")
