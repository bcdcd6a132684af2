from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.training.plans import (
    patch_size,
    preprocessing_of,
    previous_stage_of,
    resolve_configuration,
)
from segmaformer.checkpoint.training.readers import training_reader
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Normalization, Preprocessing, PreviousStage, Resampling

CHANNELS = ("T1", "CT")
Plans = dict[str, Any]


def read(plans: Plans, name: str | None = None) -> Preprocessing:
    _, configuration = resolve_configuration(plans, name)
    patch_size(configuration)
    return preprocessing_of(plans, configuration, CHANNELS, training_reader(plans))


def fullres(plans: Plans) -> Plans:
    configuration: Plans = plans["configurations"]["3d_fullres"]
    return configuration


def test_everything_that_plans_say(plans: Plans) -> None:
    assert read(plans) == Preprocessing(
        channels=CHANNELS,
        normalization=(
            Normalization("zscore", use_mask=True),
            Normalization("ct", mean=80.0, std=140.0, lower=-900.0, upper=300.0),
        ),
        orientation=None,
        transpose_forward=(0, 2, 1),
        crop_to_nonzero=True,
        spacing=(3.0, 0.5, 0.75),
        resampling=Resampling(3, 0, None, 3.0),
        logits_resampling=Resampling(1, 0, None, 3.0),
        reader="simpleitk",
    )
    assert patch_size(fullres(plans)) == (16, 24, 32)


def test_what_plans_may_leave_out(plans: Plans) -> None:
    old = {key: plans[key] for key in ("configurations",)}
    old["foreground_intensity_properties_by_modality"] = plans[
        "foreground_intensity_properties_per_channel"
    ]
    for key in list(fullres(old)):
        if key not in ("patch_size", "spacing", "normalization_schemes"):
            del fullres(old)[key]
    read_back = read(old)
    assert read_back.orientation is None
    assert read_back.transpose_forward == (0, 1, 2)
    assert read_back.resampling == Resampling(3, 0, None)
    assert read_back.logits_resampling == Resampling(1, 0, None)
    assert [n.use_mask for n in read_back.normalization] == [False, False]
    assert read_back.normalization[1].mean == 80.0


@pytest.mark.parametrize(
    ("reader", "rule", "orientation"),
    [
        ("SimpleITKIO", "simpleitk", None),
        ("NibabelIO", "nibabel", None),
        ("NibabelIOWithReorient", "nibabel_reoriented", "RAS"),
        ("SimpleITKIOWithReorient", "simpleitk", "RAS"),
    ],
)
def test_readers(plans: Plans, reader: str, rule: str, orientation: str | None) -> None:
    plans["image_reader_writer"] = reader
    assert read(plans).orientation == orientation
    assert read(plans).reader == rule
    assert training_reader(plans).assumption is None


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("ZScoreNormalization", "zscore"),
        ("NoNormalization", "none"),
        ("RescaleTo01Normalization", "rescale01"),
        ("RGBTo01Normalization", "rgb01"),
    ],
)
def test_schemes(plans: Plans, name: str, scheme: str) -> None:
    fullres(plans)["normalization_schemes"] = [name, name]
    del plans["foreground_intensity_properties_per_channel"]
    assert [n.scheme for n in read(plans).normalization] == [scheme, scheme]


def test_resampling_options(plans: Plans) -> None:
    fullres(plans)["resampling_fn_data_kwargs"] = {
        "order": 1,
        "order_z": 1,
        "force_separate_z": True,
        "separate_z_anisotropy_threshold": 2,
    }
    assert read(plans).resampling == Resampling(1, 1, True, 2.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}, False),
        ({"force_separate_z": None}, None),
        ({}, None),
    ],
)
def test_resampling_by_pytorch(plans: Plans, given: Any, expected: bool | None) -> None:
    for key in ("resampling_fn_data", "resampling_fn_probabilities"):
        fullres(plans)[key] = "resample_torch_fornnunet"
        fullres(plans)[f"{key}_kwargs"] = given
    preprocessing = read(plans)
    assert preprocessing.resampling == Resampling(1, 0, expected, 3.0, "torch")
    assert preprocessing.logits_resampling == preprocessing.resampling


def test_without_resampling_the_scans_grid_stays(plans: Plans) -> None:
    fullres(plans)["resampling_fn_data"] = "no_resampling_hack"
    fullres(plans)["resampling_fn_data_kwargs"] = {}
    with pytest.raises(InputError, match="expected that both resample, or neither"):
        read(plans)
    fullres(plans)["resampling_fn_probabilities"] = "no_resampling_hack"
    fullres(plans)["resampling_fn_probabilities_kwargs"] = {}
    assert read(plans).spacing is None


def test_options_left_out_have_the_defaults_of_the_function(plans: Plans) -> None:
    """Test values that nnU-Net's planner never writes; parity_cases.py has none of these."""
    fullres(plans)["resampling_fn_data_kwargs"] = {"order": 1}
    fullres(plans)["resampling_fn_probabilities_kwargs"] = {}
    assert read(plans).resampling == Resampling(1, 0, False, 3.0)
    assert read(plans).logits_resampling == Resampling(3, 0, False, 3.0)


def test_inheritance(plans: Plans) -> None:
    plans["configurations"]["base"] = fullres(plans)
    plans["configurations"]["3d_fullres"] = {"inherits_from": "middle", "spacing": [1, 1, 1]}
    plans["configurations"]["middle"] = {"inherits_from": "base", "spacing": [2, 2, 2]}
    _, configuration = resolve_configuration(plans, "3d_fullres")
    assert configuration["spacing"] == [1, 1, 1]
    assert patch_size(configuration) == (16, 24, 32)


def test_the_only_volumetric_configuration_is_taken(plans: Plans) -> None:
    assert resolve_configuration(plans, None)[0] == "3d_fullres"
    plans["configurations"]["3d_cascade_fullres"] = {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }
    assert resolve_configuration(plans, None)[0] == "3d_fullres"


def test_several_volumetric_configurations(plans: Plans) -> None:
    plans["configurations"]["3d_lowres"] = {"inherits_from": "3d_fullres"}
    with pytest.raises(InputError, match="describes 3d_fullres, 3d_lowres; say which"):
        resolve_configuration(plans, None)
    assert resolve_configuration(plans, "3d_lowres")[0] == "3d_lowres"


def test_no_volumetric_configuration(plans: Plans) -> None:
    del plans["configurations"]["3d_fullres"]
    with pytest.raises(InputError, match="no 3-D configuration"):
        resolve_configuration(plans, None)
    with pytest.raises(InputError, match=r"patch_size \[.*\], but the network is 3-D"):
        read(plans, "2d")


SEPARATE = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": True}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, Resampling(1, 0, None)),
        ({"resampling_fn_seg_kwargs": SEPARATE}, Resampling(1, 0, True)),
        ({"resampling_fn_seg_kwargs": {**SEPARATE, "order": 0}}, Resampling(0, 0, True)),
    ],
)
def test_labels_of_a_previous_stage(stated: Plans, expected: Resampling) -> None:
    stage = previous_stage_of({"previous_stage": "3d_lowres", **stated}, (1, 2))
    assert stage == PreviousStage((1, 2), expected)
    assert previous_stage_of(stated, (1, 2)) is None


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ({"resampling_fn_seg_kwargs": {**SEPARATE, "order": 3}}, "order 3 and order_z 0"),
        ({"resampling_fn_seg_kwargs": {**SEPARATE, "order_z": 1}}, "order 1 and order_z 1"),
        ({"resampling_fn_seg_kwargs": {**SEPARATE, "is_seg": False}}, "expected true for labels"),
    ],
)
def test_labels_resampled_in_another_way(stated: Plans, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        previous_stage_of({"previous_stage": "3d_lowres", **stated}, (1, 2))


@pytest.mark.parametrize(
    ("configurations", "name", "complaint"),
    [
        (None, None, "configurations is None"),
        ({"a": 3}, "a", "configuration a is 3"),
        ({"a": {}}, "b", "no configuration 'b'; it has a"),
        ({"a": {"inherits_from": "b"}}, "a", "no configuration 'b'"),
        ({"a": {"inherits_from": ["b"]}}, "a", "no configuration"),
        ({"a": {"inherits_from": "a"}}, "a", "'a' inherits from itself"),
        ({"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}, None, "inherits from itself"),
    ],
)
def test_configurations_that_lead_nowhere(
    configurations: Any, name: str | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        resolve_configuration({"configurations": configurations}, name)


STATISTICS = "foreground_intensity_properties_per_channel"
CT = {"mean": 0, "std": 1, "percentile_00_5": -1, "percentile_99_5": 1}


@pytest.mark.parametrize(
    ("where", "key", "value", "complaint"),
    [
        ("plans", "image_reader_writer", "Tiff3DIO", "'Tiff3DIO', which takes TIFF"),
        ("plans", "image_reader_writer", "NaturalImage2DIO", "takes flat images"),
        ("plans", "image_reader_writer", "HospitalIO", "'HospitalIO'.* are unknown; known: Simple"),
        ("plans", "image_reader_writer", ["SimpleITKIO"], "are unknown; known: SimpleITKIO"),
        ("plans", "transpose_forward", [0, 1], "has 2 entries"),
        ("plans", "transpose_forward", [0, 1, 1], "expected an order of 0, 1, 2"),
        ("plans", STATISTICS, None, "expected a dictionary"),
        ("plans", STATISTICS, {}, "channel 1 is None"),
        ("plans", STATISTICS, {"1": {"mean": 1.0}}, "channel 1, std is None"),
        ("fullres", "preprocessor_name", "MyPreprocessor", "preprocessor 'MyPreprocessor'"),
        ("fullres", "spacing", [1.0, 1.0], "spacing has 2 entries"),
        ("fullres", "spacing", [1.0, 0.0, 1.0], "expected positive millimetres"),
        ("fullres", "spacing", [1.0, float("nan"), 1.0], "expected a finite number"),
        ("fullres", "spacing", ["1", "1", "1"], "expected a finite number"),
        ("fullres", "patch_size", [16, 0, 16], "expected positive voxel counts"),
        ("fullres", "patch_size", [16, 16.5, 16], "whole number"),
        ("fullres", "patch_size", [10**9, 10**9, 10**9], "expected at most 2147483647 voxels"),
        ("fullres", "patch_size", [10**9, 16, 16], "expected at most 2147483647 voxels"),
        ("fullres", "patch_size", 16, "expected a list"),
        ("fullres", "normalization_schemes", None, "expected a list"),
        ("fullres", "normalization_schemes", ["NoNormalization"], "1 channels, but .* have 2"),
        ("fullres", "normalization_schemes", ["Mine", "Mine"], "unknown normalisation 'Mine'"),
        ("fullres", "use_mask_for_norm", [True], "has 1 entries"),
        ("fullres", "resampling_fn_data", "resample_torch", "'resample_torch'; known: resample_d"),
        ("fullres", "resampling_fn_data_kwargs", 3, "expected a dictionary"),
        ("fullres", "resampling_fn_data_kwargs", {"order": 6}, "spline order from 0 to 5"),
        ("fullres", "resampling_fn_data_kwargs", {"force_separate_z": 1}, "true, false or null"),
        ("fullres", "resampling_fn_data_kwargs", {"mode": "linear"}, "has mode, which resample_d"),
        ("fullres", "resampling_fn_probabilities_kwargs", {"is_seg": True}, "is_seg is True"),
        ("plans", "label_manager", "Mine", "label_manager 'Mine'; known: LabelManager"),
        ("plans", STATISTICS, {"1": {**CT, "std": 0}}, "standard deviation 0, clipped"),
        ("plans", STATISTICS, {"1": {**CT, "percentile_99_5": -1}}, "clipped to -1 and -1"),
    ],
)
def test_refusals(plans: Plans, where: str, key: str, value: Any, complaint: str) -> None:
    target = plans if where == "plans" else fullres(plans)
    target[key] = value
    with pytest.raises(InputError, match=complaint):
        read(plans, "3d_fullres")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=150)
@given(data=st.data(), value=JSON)
def test_any_edited_plans_are_read_or_refused(data: st.DataObject, value: Any) -> None:
    plans = json.loads(json.dumps(_template()))
    target = data.draw(st.sampled_from([plans, fullres(plans), plans["configurations"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = value
    try:
        read(plans)
    except InputError:
        return


def _template() -> Plans:
    return {
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "NibabelIO",
        "configurations": {
            "3d_fullres": {
                "patch_size": [32, 32, 32],
                "spacing": [1, 1, 1],
                "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
                "use_mask_for_norm": [False, False],
                "inherits_from": None,
                "previous_stage": None,
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"order": 3},
            }
        },
        STATISTICS: {"1": CT},
    }
