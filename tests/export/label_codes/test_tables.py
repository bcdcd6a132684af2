from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.packages.manifest_cases import CODES, KIDNEY

from segmaformer.export.label_codes.tables import (
    label_codes,
    read_codes,
    ready_table,
    ready_tables,
)
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.codes import code_complaints
from segmaformer.runtime.spec import Label, Output, Region

TABLES = ["acdc", "brats", "hippocampus", "synapse", "totalsegmentator"]
SIZES = {"acdc": 6, "brats": 9, "hippocampus": 2, "synapse": 14, "totalsegmentator": 117}


def labels(*names: str) -> Output:
    named = ("background", *names)
    return Output(tuple(Label(value, name) for value, name in enumerate(named)))


def test_the_ready_tables_are_found() -> None:
    assert ready_tables() == TABLES
    assert {name: len(ready_table(name)) for name in TABLES} == SIZES


@pytest.mark.parametrize("name", TABLES)
def test_ready_tables_hold_no_bad_code(name: str) -> None:
    table = ready_table(name)
    assert [*code_complaints(table, labels(*table))] == []


@pytest.mark.parametrize("name", TABLES)
def test_every_ready_code_is_listed_by_dicom_with_that_meaning(name: str) -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts
    listed: set[tuple[str, str, str]] = {
        (scheme, value, meaning)
        for scheme in ("SCT", "NCIt")
        for entries in concepts[scheme].values()
        for value, (meaning, _) in entries.items()
    }
    codes = [
        code
        for label in ready_table(name).values()
        for code in (label.category, label.type, label.modifier)
        if code is not None
    ]
    assert {(code.scheme, code.value, code.meaning) for code in codes} <= listed


@pytest.mark.parametrize("name", TABLES)
def test_names_and_modifiers_agree_about_the_side(name: str) -> None:
    for label, codes in ready_table(name).items():
        meaning = f"{codes.modifier.meaning if codes.modifier else ''} {codes.type.meaning}".lower()
        for side, other in (("left", "right"), ("right", "left")):
            if side in label.split():
                assert side in meaning
                assert other not in meaning


@pytest.mark.parametrize(
    ("table", "label", "kind", "modifier"),
    [
        ("totalsegmentator", "kidney_left", "64033007", "7771000"),
        ("totalsegmentator", "subclavian_artery_right", "36765005", "24028007"),
        ("totalsegmentator", "liver", "10200004", None),
        ("synapse", "Right Kidney", "64033007", "24028007"),
        ("acdc", "RV", "53085002", None),
        ("acdc", "MLV", "49848007", None),
        ("brats", "enhancing tumor", "C113842", None),
        ("hippocampus", "Anterior", "5366008", "255549009"),
    ],
)
def test_labels_get_their_code(table: str, label: str, kind: str, modifier: str | None) -> None:
    codes = read_codes(table, labels("other", label))[label]
    assert codes.type.value == kind
    assert (codes.modifier.value if codes.modifier else None) == modifier


def test_regions_get_the_codes() -> None:
    output = Output(labels("edema").labels, (Region("whole tumor", (1,), 1),))
    assert [*read_codes("brats", output)] == ["whole tumor"]


def test_a_table_of_other_labels_is_refused() -> None:
    with pytest.raises(InputError, match="the ready table acdc has none of the labels liver"):
        read_codes("acdc", labels("liver"))


def test_labels_without_a_code_are_told() -> None:
    lines: list[str] = []
    codes = label_codes("synapse", labels("liver", "node", "rim"), lines.append)
    assert [*codes] == ["liver"]
    assert lines == ["labels without a code: node, rim"]


def test_a_file_gives_codes_by_exact_names(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    path.write_text(json.dumps({"Left kidney": CODES}))
    assert read_codes(str(path), labels("liver", "Left kidney")) == {"Left kidney": KIDNEY}


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"left kidney": CODES}, "codes names 'left kidney'; expected one of liver, Left kidney"),
        ({"liver": {**CODES, "type": {**CODES["type"], "value": "64033008"}}}, "no concept of"),
        ({"liver": {"type": CODES["type"]}}, "liver lacks category"),
        ([], "expected one JSON object"),
    ],
)
def test_a_bad_file_is_refused_and_named(tmp_path: Path, document: Any, complaint: str) -> None:
    path = tmp_path / "codes.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        read_codes(str(path), labels("liver", "Left kidney"))
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_the_ready_tables(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="or a ready table: acdc, brats"):
        read_codes(str(tmp_path / "none.json"), labels("liver"))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    path.write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_codes(str(path), labels("liver"))
