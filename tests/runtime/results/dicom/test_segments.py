from __future__ import annotations

import dataclasses

from support.packages.manifest_cases import KIDNEY
from support.packages.samples import sample_manifest

from segmaformer.runtime.package.codes import code_complaints
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.results.dicom.segments import Segment, segments_of, uncoded_names
from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.spec import Label, Output, Region


def manifest(*names: str, regions: tuple[Region, ...] = ()) -> Manifest:
    labels = tuple(Label(value, name) for value, name in enumerate(("background", *names)))
    return sample_manifest(output=Output(labels, regions))


def test_every_label_but_the_background_is_a_segment() -> None:
    segments = segments_of(manifest("left kidney", "liver"))
    assert [(each.number, each.name, each.values) for each in segments] == [
        (1, "left kidney", (1,)),
        (2, "liver", (2,)),
    ]
    assert [each.colour for each in segments] == [tuple(row) for row in label_colours(2).tolist()]


def test_a_region_is_the_union_of_its_labels() -> None:
    whole, core = Region("whole", (1, 2), 1), Region("core", (2,), 2)
    segments = segments_of(manifest("edema", "core", regions=(whole, core)))
    assert [(each.name, each.values) for each in segments] == [("whole", (1, 2)), ("core", (2,))]


def test_codes_are_those_of_the_package() -> None:
    coded = dataclasses.replace(manifest("left kidney", "node"), codes={"left kidney": KIDNEY})
    assert segments_of(coded)[0].codes == KIDNEY
    assert uncoded_names(coded) == ["node"]


def test_a_label_without_a_code_is_described_by_its_name_alone() -> None:
    (segment,) = segments_of(manifest("node"))
    assert (segment.codes.type.scheme, segment.codes.type.value) == ("99SGMF", "LABEL-1")
    assert segment.codes.type.meaning == "node"


def test_names_become_texts_that_dicom_allows() -> None:
    names = ["a\\b", "x" * 80, "two\nlines", "  ", "Größe"]
    found = segments_of(manifest(*names))
    assert [each.name for each in found] == ["a b", "x" * 64, "two lines", "unnamed", "Größe"]
    assert all(_is_valid(each) for each in found)


def _is_valid(segment: Segment) -> bool:
    return not [*code_complaints({"a": segment.codes}, Output((Label(0, "b"), Label(1, "a"))))]
