from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.recognition import ARCHITECTURES, recognise
from segmaformer.models import list_models
from segmaformer.runtime.errors import InputError

SEGMAFORMER = ["encoder.embed_1.proj.weight", "decoder.linears.0.proj.weight", "decoder.pred.bias"]
SKIP = ["encoder.mamba_layers.0.mamba.fwd_mamba.mamba.A_log"]

GOLDEN_TITLES = {
    "segformer3d_64": "SegFormer3D",
    "segmamba_tom_64": "SegMamba",
    "segresmamba_64": "SegResMamba",
    "taming_segmamba": "Taming Mambas SegMamba",
    "taming_bisegmamba": "Taming Mambas BiSegMamba or SegMambaSkip",
    "taming_segmambaskip": "Taming Mambas BiSegMamba or SegMambaSkip",
    "taming_multisegmamba": "Taming Mambas MultiSegMamba",
}


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "network.", "model._orig_mod.", "a.b."])
@pytest.mark.parametrize("arch", [None, "segmaformer"])
def test_segmaformer_behind_any_prefix(prefix: str, arch: str | None) -> None:
    found = recognise([prefix + key for key in SEGMAFORMER] + ["loss.weight"], arch=arch)
    assert (found.name, found.prefix) == ("segmaformer", prefix)


def test_every_network_that_can_be_built_is_supported() -> None:
    assert {row.name for row in ARCHITECTURES if row.support} == set(list_models())


@pytest.mark.parametrize(("name", "title"), GOLDEN_TITLES.items())
def test_other_networks_are_named(golden_dir: Path, name: str, title: str) -> None:
    keys = [key for key, _ in json.loads(str(np.load(golden_dir / f"{name}.npz")["keys"]))]
    with pytest.raises(InputError, match=f"this is a {title} checkpoint, which this version"):
        recognise(keys)


@pytest.mark.parametrize("name", ["brats_mhha_64", "btcv_fixed_mhha_32x96x96"])
def test_published_segmaformer(golden_dir: Path, name: str) -> None:
    golden = np.load(golden_dir / f"segmaformer_{name}.npz")
    found = recognise(key for key, _ in json.loads(str(golden["keys"])))
    assert (found.name, found.prefix) == ("segmaformer", "")


def test_early_segmamba() -> None:
    with pytest.raises(InputError, match=r"SegMamba \(early"):
        recognise(["vit.stages.0.0.mamba.A_b_log"])


def test_name_decides_between_networks_of_the_same_weights() -> None:
    with pytest.raises(InputError, match="this is a Taming Mambas SegMambaSkip checkpoint"):
        recognise(SKIP, arch="taming-segmambaskip")


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
