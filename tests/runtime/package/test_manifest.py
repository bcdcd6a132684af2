from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.manifest_cases import (
    CONTRADICTIONS,
    HOSTILE_NAMES,
    JSON_VALUES,
    NO_OBJECTS,
    OTHER_VERSIONS,
    WRONG_FIELDS,
    changed,
    manifests,
)
from support.packages.samples import sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import FileRecord, Manifest, parse_manifest
from segmaformer.runtime.package.seal import seal, unseal
from segmaformer.runtime.spec import Label, Output, Region


@given(manifests())
@settings(max_examples=25)
def test_writing_and_reading_gives_an_equal_manifest(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json()) == manifest
    assert parse_manifest(unseal(seal(manifest.to_json()))) == manifest


def test_defaults_may_be_left_out() -> None:
    document = json.loads(sample_manifest().to_json())
    for field in ("orientation", "transpose_forward", "crop_to_nonzero", "spacing", "resampling"):
        del document["preprocessing"][field]
    del document["tiling"]["step"], document["output"]["regions"], document["calibration"]
    assert parse_manifest(json.dumps(document)) == sample_manifest()


def test_numbers_that_json_cannot_hold_are_not_written() -> None:
    manifest = sample_manifest(calibration={"error": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        manifest.to_json()


@pytest.mark.parametrize(("place", "value", "complaint"), WRONG_FIELDS)
def test_a_wrong_field_is_named(place: str, value: Any, complaint: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(changed(place, value))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(("place", "value", "complaint"), CONTRADICTIONS)
def test_fields_that_contradict_each_other_are_refused(
    place: str, value: Any, complaint: str
) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(changed(place, value))
    assert str(caught.value).startswith("manifest.json contradicts itself: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_path_that_may_leave_the_package_is_refused(name: str) -> None:
    files = {**sample_manifest().files, name: FileRecord("0" * 64, 1)}
    with pytest.raises(PackageError, match="may lead out of the package"):
        parse_manifest(sample_manifest(files=files).to_json())


@pytest.mark.parametrize("name", ["card.md", "a-b_c.1.onnx", "engines/sm86.plan", "_x"])
def test_plain_file_names_are_taken(name: str) -> None:
    files = {**sample_manifest().files, name: FileRecord("0" * 64, 1)}
    assert parse_manifest(sample_manifest(files=files).to_json()).files == files


def test_regions_give_the_channels() -> None:
    labels = (Label(0, "background"), Label(4, "a"), Label(9, "b"))
    regions = (Region("ab", (1, 2), 4), Region("b", (2,), 9))
    assert Output(labels, regions).channels == 2
    assert Output(labels[:2]).channels == 2
    manifest = sample_manifest(output=Output(labels, regions))
    assert parse_manifest(manifest.to_json()) == manifest


@pytest.mark.parametrize(("version", "complaint"), OTHER_VERSIONS)
def test_other_versions_are_refused(version: Any, complaint: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(changed("format_version", version))
    assert complaint in str(caught.value)


def test_unknown_fields_of_a_newer_minor_version_are_ignored() -> None:
    document = json.loads(changed("format_version", "1.7"))
    document["shading"] = {"a": 1}
    document["tiling"]["overlap_mode"] = "new"
    expected = dataclasses.replace(sample_manifest(), format_version="1.7")
    assert parse_manifest(json.dumps(document)) == expected


def test_known_fields_of_a_newer_minor_version_are_checked() -> None:
    document = json.loads(changed("format_version", "1.7"))
    document["tiling"]["tile"] = "large"
    with pytest.raises(PackageError, match=r"manifest\.tiling\.tile"):
        parse_manifest(json.dumps(document))


@pytest.mark.parametrize(("text", "complaint"), NO_OBJECTS)
def test_what_is_no_json_object_is_refused(text: str | bytes, complaint: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(text)
    assert complaint in str(caught.value)


def test_messages_stay_short_and_on_one_line() -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(changed("name", ["\x1b[31m" + "x" * 10_000, ["\n"] * 10_000]))
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 200


@given(st.binary(max_size=200))
@settings(max_examples=25)
def test_any_bytes_are_either_read_or_refused(content: bytes) -> None:
    with pytest.raises(PackageError):
        parse_manifest(content)


@given(place=st.integers(0, 10_000), value=JSON_VALUES)
@settings(max_examples=25)
def test_any_value_at_any_place_is_either_read_or_refused(place: int, value: Any) -> None:
    document = json.loads(sample_manifest().to_json())
    spots = list(_spots(document))
    holder, key = spots[place % len(spots)]
    holder[key] = value
    try:
        manifest = parse_manifest(json.dumps(document))
    except PackageError:
        return
    assert parse_manifest(manifest.to_json()) == manifest


def _spots(node: Any) -> Any:
    """Yield every (container, key) of a JSON document."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        yield node, key
        if isinstance(value, dict | list):
            yield from _spots(value)


def test_the_seal_covers_every_byte() -> None:
    sealed = seal(sample_manifest().to_json())
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 0x02
        with pytest.raises(PackageError):
            unseal(bytes(damaged))


@pytest.mark.parametrize("change", [b"", b"\n", b" "])
def test_a_sealed_manifest_of_another_length_is_refused(change: bytes) -> None:
    sealed = seal(sample_manifest().to_json())
    with pytest.raises(PackageError, match="damaged or altered"):
        unseal(sealed[:-1] if not change else sealed + change)
    with pytest.raises(PackageError, match="does not begin with its manifest_sha256"):
        unseal(sample_manifest().to_json().encode())


def test_the_seal_is_the_digest_of_the_other_lines() -> None:
    sealed = seal(sample_manifest().to_json())
    digest = json.loads(sealed)["manifest_sha256"]
    others = b"".join(line for line in sealed.splitlines(True) if b"manifest_sha256" not in line)
    assert hashlib.sha256(others).hexdigest() == digest
