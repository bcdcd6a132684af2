from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.packages.manifest_cases import CODES, KIDNEY
from support.packages.samples import sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.codes import (
    Code,
    code_complaints,
    coded_names,
    parse_codes,
)
from segmaformer.runtime.package.manifest import parse_manifest
from segmaformer.runtime.spec import Label, Output, Region

LABELS = (Label(0, "background"), Label(1, "left kidney"), Label(2, "liver"))
OUTPUT = Output(LABELS)
KIDNEY_VALUE = KIDNEY.type.value


def complaints(name: str, part: str, **changes: str) -> str:
    code = dataclasses.replace(getattr(KIDNEY, part), **changes)
    codes = {name: dataclasses.replace(KIDNEY, **{part: code})}
    return "; ".join(code_complaints(codes, OUTPUT))


def test_codes_are_for_every_label_but_the_background() -> None:
    assert coded_names(OUTPUT) == ["left kidney", "liver"]


def test_codes_are_for_regions_where_there_are_any() -> None:
    assert coded_names(Output(LABELS, (Region("abdomen", (1, 2), 1),))) == ["abdomen"]


def test_good_codes_are_read_as_written() -> None:
    codes = parse_codes(json.dumps({"left kidney": CODES}), "codes.json")
    assert codes == {"left kidney": KIDNEY}
    assert [*code_complaints(codes, OUTPUT)] == []


def test_a_modifier_may_be_left_out() -> None:
    text = json.dumps({"liver": {key: CODES[key] for key in ("category", "type")}})
    assert parse_codes(text, "codes.json")["liver"].modifier is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "codes.json holds []; expected one JSON object"),
        ('{"liver": 3}', "codes.json.liver is 3; expected an object"),
        ('{"liver": {}}', "codes.json.liver lacks category, type"),
        ('{"a": {}, "a": {}}', "the key a stands twice"),
    ],
)
def test_another_form_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_codes(text, "codes.json")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("part", "changes", "complaint"),
    [
        ("type", {"value": ""}, "type.value is ''; expected 1 to 16"),
        ("type", {"value": "64033008"}, "type.value is '64033008', which is no concept of SNOMED"),
        ("type", {"value": "46033007"}, "no concept of SNOMED CT"),
        ("type", {"value": "T-71000"}, "no concept of SNOMED CT"),
        ("type", {"value": "1" * 17}, "expected 1 to 16 printable"),
        ("type", {"meaning": "x" * 65}, "type.meaning is"),
        ("type", {"meaning": "Kid\nney"}, "expected 1 to 64 printable"),
        ("modifier", {"meaning": "Left\\Right"}, "modifier.meaning is 'Left\\\\Right'; DICOM"),
        ("category", {"scheme": " SCT"}, "category.scheme is ' SCT'"),
        ("category", {"scheme": ""}, "category.scheme is ''; expected 1 to 16"),
    ],
)
def test_a_bad_code_is_named(part: str, changes: dict[str, str], complaint: str) -> None:
    found = complaints("left kidney", part, **changes)
    assert f"codes.'left kidney'.{part}" in found
    assert complaint in found


def test_a_name_that_is_no_label_is_named() -> None:
    assert "codes names 'kidney'; expected one of left kidney, liver" in complaints(
        "kidney", "type"
    )


@given(st.integers(0, len(KIDNEY_VALUE) - 1), st.integers(1, 9))
def test_one_wrong_digit_is_found(place: int, step: int) -> None:
    digits = [*KIDNEY_VALUE]
    digits[place] = str((int(digits[place]) + step) % 10)
    assert "no concept" in complaints("liver", "type", value="".join(digits))


@given(st.integers(0, len(KIDNEY_VALUE) - 2))
def test_two_swapped_digits_are_found(place: int) -> None:
    digits = [*KIDNEY_VALUE]
    digits[place], digits[place + 1] = digits[place + 1], digits[place]
    if digits != [*KIDNEY_VALUE]:
        assert "no concept" in complaints("liver", "type", value="".join(digits))


def test_other_schemes_have_other_values() -> None:
    assert complaints("liver", "type", scheme="NCIt", value="C113842") == ""


def test_the_concepts_of_dicom_have_right_check_digits() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts["SCT"]
    values = {value for meanings in concepts.values() for value in meanings}
    wrong = {value for value in values if complaints("liver", "type", value=value)}
    assert len(values) > 5000
    assert wrong == {"115347700"}  # a slip of the standard's


def test_a_package_with_bad_codes_is_refused() -> None:
    manifest = sample_manifest()
    name = coded_names(manifest.output)[0]
    bad: Any = dataclasses.replace(KIDNEY, type=Code("SCT", "1", "One"))
    with pytest.raises(PackageError, match=r"contradicts itself.*codes.*no concept"):
        parse_manifest(dataclasses.replace(manifest, codes={name: bad}).to_json())
