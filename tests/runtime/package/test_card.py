from __future__ import annotations

import dataclasses

from support.packages.samples import PARITY, sample_manifest

from segmaformer.runtime.package.card import model_card
from segmaformer.runtime.package.manifest import Variant
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Region


def table_rows(card: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").replace(r"\|", "\0").split("|")]
        for line in card.splitlines()
        if line.startswith("|")
    ]


def test_labels_and_figures_are_in_the_card() -> None:
    half = Variant("fp16.onnx", {}, {**PARITY, "relative_error": 4.2e-4, "label_agreement": 0.9995})
    manifest = sample_manifest()
    card = model_card(dataclasses.replace(manifest, variants={**manifest.variants, "fp16": half}))
    assert table_rows(card) == [
        ["value", "label"],
        ["---", "---"],
        ["0", "background"],
        ["1", "hippocampus"],
        ["variant", "largest logit error / range", "equal labels", "lowest Dice"],
        ["---", "---", "---", "---"],
        ["fp32", "1.5e-07", "100.0000%", "0.99991"],
        ["fp16", "4.2e-04", "99.9500%", "0.99991"],
    ]


def test_what_decided_over_fp32_is_in_the_card() -> None:
    assert "fp32 had to stay within 2.0e-05 of the range" in model_card(sample_manifest())
    noisy = {**PARITY, "bound": 6e-5, "noise": 3e-5, "reference": "PyTorch float64"}
    manifest = sample_manifest(variants={"fp32": Variant("fp32.onnx", {}, noisy)})
    card = model_card(manifest)
    assert (
        "within 6.0e-05 of the range of the logits. PyTorch's own float32 is within 3.0e-05" in card
    )
    assert "(PyTorch float64)" in card


def test_the_card_says_where_it_comes_from_and_what_it_is_not() -> None:
    card = model_card(sample_manifest())
    assert card.startswith("# sample\n")
    for text in (
        "segmaformer network with 1,234 parameters",
        "2026-01-01",
        "`best.pth`",
        "c0ffee",
        "not a medical device",
        "on 2 phantom tiles.",
        "8 x 8 x 8 voxels (depth x height x width)",
        "channel 0: T1, zscore normalisation",
        "spacing the scan's own",
        "orientation RAS",
        "None: the checkpoint states all that is needed.",
        "- numpy 2.0",
    ):
        assert text in card


def test_the_licence_is_in_the_card() -> None:
    manifest = sample_manifest()
    assert "The weights are under: CC BY 4.0." in model_card(manifest)
    network = dataclasses.replace(manifest.network, licence=None)
    assert "Not recorded." in model_card(dataclasses.replace(manifest, network=network))


def test_assumptions_are_listed() -> None:
    manifest = sample_manifest()
    network = dataclasses.replace(manifest.network, assumptions=("heads: 4", "rope: on"))
    card = model_card(dataclasses.replace(manifest, network=network))
    assert "- heads: 4\n- rope: on" in card
    assert "None: the checkpoint" not in card


def test_each_way_of_scaling_is_described() -> None:
    spec = Preprocessing(
        ("CT", "T1"),
        (
            Normalization("ct", mean=40.5, std=100, lower=-150, upper=250),
            Normalization("zscore", use_mask=True),
        ),
        orientation=None,
        spacing=(3.0, 0.75, 0.75),
    )
    card = model_card(sample_manifest(preprocessing=spec))
    assert "- channel 0: CT, clipped to -150..250, less 40.5, over 100\n" in card
    assert "- channel 1: T1, zscore normalisation inside nonzero voxels\n" in card
    assert "- spacing 3 x 0.75 x 0.75 mm\n- orientation as stored in the file" in card


def test_regions_are_listed_with_what_they_paint() -> None:
    output = Output(
        (Label(0, "background"), Label(1, "rest of whole"), Label(2, "core")),
        (Region("whole", (1, 2), 1), Region("core", (2,), 2)),
    )
    rows = table_rows(model_card(sample_manifest(output=output)))
    assert ["1", "whole", "1, 2"] in rows
    assert ["2", "core", "2"] in rows


def test_names_cannot_break_the_cards_layout() -> None:
    output = Output((Label(0, "background"), Label(1, "a | b\n| 7 | c |")))
    card = model_card(sample_manifest(output=output, name="two\nlines"))
    assert card.startswith("# two lines\n")
    assert ["1", "a \0 b \0 7 \0 c \0"] in table_rows(card)
