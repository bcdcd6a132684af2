from __future__ import annotations

from typing import Any

import pytest
from support.bundles import INFERENCE, compose

from segmaformer.export.monai_bundle.arguments import transforms
from segmaformer.export.monai_bundle.configuration import Configuration
from segmaformer.export.monai_bundle.preparation import GRID, Preparation, read_preparation
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Normalization, Resampling


def read(*chain: dict[str, Any], channels: int = 1) -> Preparation:
    configuration = Configuration("inference.json", {"preprocessing": compose(*chain)})
    return read_preparation(transforms("@preprocessing", "preprocessing", configuration), channels)


def step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "image", **arguments}


RANGE = step("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True)
SPACING = step("Spacingd", pixdim=[1.5, 1.5, 2.0], mode="bilinear")


def test_the_published_chain_of_a_ct() -> None:
    found = read(*INFERENCE["preprocessing"]["transforms"])
    spec = found.specification(("image",), modality="CT")
    assert spec.normalization == (Normalization("ct", mean=-57, std=221, lower=-57, upper=164),)
    assert spec.orientation == "RAS"
    assert spec.transpose_forward == (2, 1, 0)
    assert spec.spacing == (1.5, 1.5, 2.0)
    assert (spec.resampling, spec.logits_resampling) == (GRID, GRID)
    assert spec.resample_first
    assert not spec.crop_to_nonzero
    assert spec.reader == "monai"


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([], Preparation()),
        ([step("LoadImage", image_only=True)], Preparation(key="image")),
        ([step("Orientationd", as_closest_canonical=True)], Preparation("image", "RAS")),
        (
            [step("NormalizeIntensityd", nonzero=True, channel_wise=True)],
            Preparation("image", scaling=Normalization("zscore_nonzero"), zero=None),
        ),
        (
            [step("ScaleIntensityd", minv=0.0, maxv=1.0), step("NormalizeIntensityd")],
            Preparation("image", scaling=Normalization("zscore"), zero=None),
        ),
        (
            [step("NormalizeIntensityd"), step("Spacingd", pixdim=2)],
            Preparation("image", None, (2, 2, 2), scaling=Normalization("zscore"), zero=None),
        ),
        (
            [RANGE, step("CropForegroundd", source_key="image", select_fn="$lambda x: x > 0")],
            Preparation(
                "image",
                crop_above=-57,
                scaling=Normalization("clip", mean=-57, std=221, lower=-57, upper=164),
                zero=-57,
            ),
        ),
        (
            [step("ScaleIntensityRanged", a_min=0, a_max=10, b_min=-1, b_max=1)],
            Preparation(
                "image",
                scaling=Normalization("clip", mean=5, std=5, lower=-3e38, upper=3e38),
                zero=None,
            ),
        ),
    ],
)
def test_chains(chain: list[dict[str, Any]], expected: Preparation) -> None:
    assert read(*chain) == expected


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        ([step("RandFlipd")], r"RandFlipd\) cannot be honoured exactly"),
        ([step("os.system", command="true")], r"os\.system"),
        ([step("scripts.transforms.Mine")], r"scripts\.transforms\.Mine"),
        ([step("Lambdad", func="$lambda x: x")], "Lambdad"),
        ([step("Resized", spatial_size=96, size_mode="longest")], "size_mode 'longest'"),
        ([step("Resized", spatial_size=[96, -1, 96])], "positive voxel counts"),
        ([step("Resized", spatial_size=96, mode="bicubic")], "mode 'bicubic'"),
        ([step("Resized", spatial_size=96, align_corners=True)], "mode 'area' and align_corners T"),
        ([step("Resized", spatial_size=96, anti_aliasing=True)], "anti_aliasing True"),
        ([SPACING, step("Resized", spatial_size=96)], "follows Spacing"),
        ([step("Resized", spatial_size=96), SPACING], "follows Resize"),
        ([step("Resized", spatial_size=9), step("CropForegroundd")], "follows Resize"),
        ([step("LoadImaged", reader="ITKReader")], "reader 'ITKReader'"),
        ([step("LoadImaged", reader="$os.system('true')")], "not evaluated"),
        ([step("LoadImaged", keys=["image", "label"])], "the key of one image"),
        ([step("LoadImaged"), step("Spacingd", keys="label", pixdim=2)], "works on 'label'"),
        ([step("Spacingd", pixdim=[1, 1, 1], mode="nearest")], "mode 'nearest'"),
        ([step("Spacingd", pixdim=[1, 1, 1], mode=3)], "mode 3"),
        ([step("Spacingd", pixdim=[1, 1, 1], padding_mode="zeros")], "padding_mode 'zeros'"),
        ([step("Spacingd", pixdim=[1, 1, 1], diagonal=True)], "diagonal True"),
        ([step("Spacingd", pixdim=[1, 1, -1])], "above zero"),
        ([step("Spacingd", pixdim="$[1] * 3")], "not evaluated"),
        ([step("Spacingd", pixdim=[1, 1, 1], surprise=1)], "arguments surprise"),
        ([SPACING, SPACING], "follows Spacing; expected one change"),
        ([SPACING, step("Orientationd", axcodes="RAS")], "follows Spacing"),
        ([SPACING, step("CropForegroundd", source_key="image")], "resampled scan"),
        ([step("CropForegroundd", margin=5)], "margin 5"),
        ([step("CropForegroundd", k_divisible=[16, 16, 16])], "k_divisible"),
        ([step("CropForegroundd", select_fn="$lambda x: x > 1")], "not evaluated"),
        ([step("NormalizeIntensityd"), step("CropForegroundd")], "decides where"),
        ([RANGE, step("NormalizeIntensityd")], "another scaling"),
        ([SPACING, step("NormalizeIntensityd", nonzero=True)], "nonzero voxels after Spacing"),
        ([step("ScaleIntensityRanged", a_min=1, a_max=1)], "a_min below a_max"),
        ([step("ScaleIntensityRanged", a_min=0, a_max=1, b_min=0)], "alone"),
        ([step("NormalizeIntensityd", subtrahend=[1.0])], "one number"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    chain: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        read(*chain)


@pytest.mark.parametrize(
    ("arguments", "method", "alignment", "order"),
    [
        ({}, "area", "borders", 0),
        ({"mode": "nearest"}, "floor", "borders", 0),
        ({"mode": "nearest-exact"}, "torch", "borders", 0),
        ({"mode": "trilinear"}, "torch", "borders", 1),
        ({"mode": "bilinear", "align_corners": False}, "torch", "borders", 1),
        ({"mode": "trilinear", "align_corners": True}, "torch", "end_voxels", 1),
    ],
)
def test_sizes(arguments: dict[str, Any], method: str, alignment: str, order: int) -> None:
    found = read(step("Resized", spatial_size=[96, 96, 48], **arguments), RANGE)
    spec = found.specification(("image",), modality="CT")
    assert (spec.shape, spec.spacing, spec.resample_first) == ((96, 96, 48), None, True)
    assert spec.resampling == Resampling(
        order, order, separate_z=False, method=method, alignment=alignment
    )
    assert spec.logits_resampling == spec.resampling


@pytest.mark.parametrize("name", ["ScaleIntensityd", "NormalizeIntensityd"])
def test_channels_scaled_together_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="all channels together"):
        read(step(name), channels=4)
    assert read(step(name, channel_wise=True), channels=4).scaling is not None
