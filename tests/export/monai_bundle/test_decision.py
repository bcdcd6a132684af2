from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support.bundles import INFERENCE, compose

from segmaformer.export.monai_bundle.arguments import transforms
from segmaformer.export.monai_bundle.configuration import Configuration
from segmaformer.export.monai_bundle.decision import (
    Decision,
    meaning,
    postprocessing,
    read_decision,
    with_interpolation,
)
from segmaformer.export.monai_bundle.preparation import Preparation
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import KeepLargest, Resampling

SPACED = Preparation("image", "RAS", (1.5, 1.5, 2.0))


def read(*chain: dict[str, Any], of: Preparation = SPACED) -> Decision:
    configuration = Configuration("inference.json", {"postprocessing": compose(*chain)})
    steps = transforms("@postprocessing", "postprocessing", configuration)
    return read_decision(steps, of, lambda line: None)


def step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "pred", **arguments}


def invert(**arguments: Any) -> dict[str, Any]:
    return step("Invertd", transform="@preprocessing", orig_keys="image", **arguments)


SOFTMAX = step("Activationsd", softmax=True)
SIGMOID = step("Activationsd", sigmoid=True)
ARGMAX = step("AsDiscreted", argmax=True)
THRESHOLD = step("AsDiscreted", threshold=0.5)
LINEAR = invert(nearest_interp=False)


@pytest.mark.parametrize(
    ("chain", "expected", "interpolated", "order"),
    [
        ([SOFTMAX, LINEAR, ARGMAX], Decision("softmax", "argmax", "linear"), "probabilities", 1),
        ([LINEAR, ARGMAX], Decision(None, "argmax", "linear"), "logits", 1),
        ([SOFTMAX, ARGMAX, invert()], Decision("softmax", "argmax", "nearest"), "logits", 0),
        ([SOFTMAX, invert(), ARGMAX], Decision("softmax", "argmax", "nearest"), "logits", 0),
    ],
)
def test_what_is_interpolated(
    chain: list[dict[str, Any]], expected: Decision, interpolated: str, order: int
) -> None:
    found = read(*chain)
    assert found == expected
    spec = SPACED.specification(("image",), modality="CT")
    output, _ = meaning(found, ("background", "spleen"))
    spec, output = with_interpolation(spec, output, found)
    assert (output.interpolated, spec.logits_resampling.order) == (interpolated, order)
    assert spec.resampling.order == 1


def test_the_published_chain_says_what_it_ignores() -> None:
    lines: list[str] = []
    configuration = Configuration("inference.json", INFERENCE)
    read_decision(
        transforms("@postprocessing", "postprocessing", configuration), SPACED, lines.append
    )
    (line,) = lines
    assert "SaveImaged" in line


def test_masks_are_regions() -> None:
    found = read(SIGMOID, LINEAR, THRESHOLD)
    output, order = meaning(found, ("lesion",))
    assert [region.value for region in output.regions] == [1]
    names = ("Tumor core", "Whole tumor", "Enhancing tumor")
    output, order = meaning(found, names)
    assert order == (1, 0, 2)
    assert [region.name for region in output.regions] == [
        "whole tumor",
        "tumor core",
        "enhancing tumor",
    ]
    with pytest.raises(InputError, match="masks that may overlap, liver, tumor"):
        meaning(found, ("liver", "tumor"))


AREA = Resampling(0, 0, separate_z=False, method="area")
RESIZED = Preparation("image", "RAS", shape=(96, 96, 48), grid=AREA)


@pytest.mark.parametrize(("nearest", "method"), [(True, "floor"), (False, "area")])
def test_the_way_back_from_a_size(nearest: bool, method: str) -> None:
    found = read(SOFTMAX, invert(nearest_interp=nearest), ARGMAX, of=RESIZED)
    spec = RESIZED.specification(("image",), modality="CT")
    output, _ = meaning(found, ("background", "spleen"))
    spec, output = with_interpolation(spec, output, found)
    assert spec.logits_resampling.method == method
    assert output.interpolated == ("logits" if nearest else "probabilities")


def keep(**arguments: Any) -> dict[str, Any]:
    return step("KeepLargestConnectedComponentd", **arguments)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([ARGMAX, invert(), keep()], [KeepLargest((1,)), KeepLargest((2,))]),
        ([invert(), ARGMAX, keep(applied_labels=[2, 1], independent=False)], [KeepLargest((2, 1))]),
        ([invert(), ARGMAX, keep(independent=False)], [KeepLargest((1, 2))]),
        (
            [invert(), step("AsDiscreted", argmax=True, to_onehot=3), keep(applied_labels=2)],
            [KeepLargest((2,))],
        ),
        (
            [invert(), ARGMAX, keep(applied_labels=[1], connectivity=1, num_components=2)],
            [KeepLargest((1,), 2, 1)],
        ),
    ],
)
def test_components_that_stay(chain: list[dict[str, Any]], expected: list[KeepLargest]) -> None:
    found = read(*chain)
    output, _ = meaning(found, ("background", "liver", "tumor"))
    steps = postprocessing(found, output)
    assert steps == tuple(dataclasses.replace(each, equals_stay=False) for each in expected)


def test_components_of_masks() -> None:
    found = read(SIGMOID, LINEAR, THRESHOLD, keep(is_onehot=False))
    one, _ = meaning(found, ("lesion",))
    assert postprocessing(found, one) == (KeepLargest((1,), equals_stay=False),)
    several, _ = meaning(found, ("Tumor core", "Whole tumor", "Enhancing tumor"))
    with pytest.raises(InputError, match="masks that may overlap"):
        postprocessing(found, several)
    with pytest.raises(InputError, match="applied_labels 5, which is no label"):
        postprocessing(read(invert(), ARGMAX, keep(applied_labels=[5])), one)


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        ([SOFTMAX, LINEAR, keep(), ARGMAX], "before labels are decided"),
        ([ARGMAX, keep(), invert()], "put it after Invertd"),
        ([LINEAR, ARGMAX, keep(is_onehot=True)], "is_onehot True"),
        ([LINEAR, ARGMAX, keep(applied_labels=[0, 1])], "above 0, the background"),
        ([LINEAR, ARGMAX, keep(connectivity=4)], "connectivity 4"),
        ([LINEAR, ARGMAX, keep(num_components=0)], "num_components 0"),
        ([SOFTMAX, LINEAR], "does not decide"),
        ([SOFTMAX, ARGMAX], "does not bring its labels back"),
        ([SOFTMAX, ARGMAX, LINEAR], "interpolates labels linearly"),
        ([SOFTMAX, LINEAR, THRESHOLD], "cannot be honoured exactly; expected argmax"),
        ([SIGMOID, LINEAR, step("AsDiscreted", threshold=0.3)], "threshold 0.5"),
        ([SOFTMAX, SOFTMAX], "expected first"),
        ([step("Activationsd", other="$torch.tanh")], "not evaluated"),
        ([step("Activationsd", softmax=True, dim=1)], "dim 1"),
        ([invert(post_func="$lambda x: x")], "not evaluated"),
        ([step("Invertd", transform="@other")], "inverts something else"),
        ([step("FillHolesd")], r"\(FillHolesd\) cannot be honoured exactly"),
        ([step("scripts.post.Mine")], r"scripts\.post\.Mine"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    chain: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        read(*chain)
