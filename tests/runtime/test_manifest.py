from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.manifest import (
    FileRecord,
    Label,
    Manifest,
    Network,
    Normalization,
    Output,
    Preprocessing,
    Region,
    Resampling,
    Tiling,
    Variant,
    parse_manifest,
)
from segmaformer.runtime.manifest_seal import seal, unseal

FINITE = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(1e-3, 1e3)
COUNTS = st.integers(0, 2**53)
TEXT = st.text(max_size=12)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | COUNTS | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TRIPLES = st.tuples(*[st.integers(1, 200)] * 3)

NORMALIZATIONS = st.builds(
    Normalization,
    st.sampled_from(["zscore", "none", "rescale01", "rescale01_slices", "rgb01"]),
    st.booleans(),
) | st.builds(
    Normalization,
    st.just("ct"),
    mean=FINITE,
    std=POSITIVE,
    lower=st.floats(-1e3, 0),
    upper=st.floats(1, 1e3),
)
RESAMPLINGS = st.builds(
    Resampling, st.integers(0, 5), st.integers(0, 5), st.none() | st.booleans(), POSITIVE
)
OUTPUTS = st.integers(2, 5).map(
    lambda count: Output(tuple(Label(value, f"label {value}") for value in range(count)))
) | st.builds(
    lambda value, united: Output(
        (Label(0, "background"), Label(value, "tumour")),
        (Region("tumour", tuple(united), value),),
    ),
    st.integers(1, 65535),
    st.lists(st.integers(0, 9), max_size=3),
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    channels = draw(st.integers(1, 3))
    preprocessing = Preprocessing(
        channels=tuple(draw(st.lists(TEXT, min_size=channels, max_size=channels))),
        normalization=tuple(draw(st.lists(NORMALIZATIONS, min_size=channels, max_size=channels))),
        orientation=draw(st.sampled_from([None, "RAS", "LPS", "ASR"])),
        transpose_forward=draw(st.permutations([0, 1, 2]).map(tuple)),
        crop_to_nonzero=draw(st.booleans()),
        spacing=draw(st.none() | st.tuples(POSITIVE, POSITIVE, POSITIVE)),
        resampling=draw(RESAMPLINGS),
        logits_resampling=draw(RESAMPLINGS),
    )
    axes = draw(st.sets(st.integers(0, 2)))
    tiling = Tiling(draw(TRIPLES), draw(st.floats(0.1, 1)), draw(st.booleans()), tuple(axes))
    objects = st.dictionaries(TEXT, JSON_VALUES, max_size=3)
    texts = st.dictionaries(TEXT, TEXT, max_size=3)
    variants = {
        name: Variant(f"{name}.onnx", draw(texts), draw(objects))
        for name in draw(st.sampled_from([["fp32"], ["fp32", "fp16"]]))
    }
    return Manifest(
        name=draw(TEXT),
        network=Network(
            draw(TEXT),
            draw(objects),
            draw(COUNTS),
            draw(TEXT),
            draw(DIGESTS),
            draw(st.none() | TEXT),
            tuple(draw(st.lists(TEXT, max_size=3))),
        ),
        preprocessing=preprocessing,
        tiling=tiling,
        output=draw(OUTPUTS),
        variants=variants,
        verification_tiles=draw(TEXT),
        software=draw(texts),
        created=draw(TEXT),
        files={v.file: FileRecord(draw(DIGESTS), draw(COUNTS)) for v in variants.values()},
        calibration=draw(st.none() | objects),
    )


@given(manifests())
@settings(max_examples=25, deadline=None)
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


MISSING = object()


def changed(place: str, value: Any) -> str:
    """The sample manifest as JSON with the field at the dotted `place` replaced."""
    document = json.loads(sample_manifest().to_json())
    *parents, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    target = document
    for part in parents:
        target = target[part]
    if value is MISSING:
        del target[last]
    else:
        target[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("name", MISSING, "manifest lacks name"),
        ("name", None, "manifest.name is None; expected a text"),
        ("name", 3, "manifest.name is 3; expected a text"),
        ("colour", "red", "manifest has unknown fields: colour"),
        ("a\nb", 1, r"unknown fields: 'a\nb'"),
        ("network", [], "manifest.network is []; expected an object"),
        ("network/config", 7, "manifest.network.config is 7; expected an object"),
        ("network/parameters", 1.0, "manifest.network.parameters is 1.0; expected an integer"),
        ("network/parameters", True, "manifest.network.parameters is True; expected an integer"),
        ("network/assumptions", "none", "manifest.network.assumptions is 'none'; expected a list"),
        ("preprocessing/channels", [1], "manifest.preprocessing.channels[0] is 1"),
        ("preprocessing/crop_to_nonzero", 1, "crop_to_nonzero is 1; expected true or false"),
        ("preprocessing/spacing", [1, 1], "preprocessing.spacing is [1, 1]; expected 3 entries"),
        (
            "preprocessing/spacing",
            [1, 1, "1"],
            "preprocessing.spacing[2] is '1'; expected a number",
        ),
        ("preprocessing/spacing", [1, 1, 10**400], "spacing[2]"),
        (
            "preprocessing/normalization/0/scheme",
            "minmax",
            "manifest.preprocessing.normalization[0].scheme is 'minmax'; expected one of zscore",
        ),
        ("preprocessing/normalization/0/scheme", ["ct"], "normalization[0].scheme is ['ct']"),
        ("tiling/tile", [8, 8, 8.5], "manifest.tiling.tile[2] is 8.5; expected an integer"),
        ("tiling/tile", [8, 8], "manifest.tiling.tile is [8, 8]; expected 3 entries"),
        ("tiling/step", True, "manifest.tiling.step is True; expected a number"),
        ("tiling/step", None, "manifest.tiling.step is None; expected a number"),
        ("output/labels/0/value", "0", "manifest.output.labels[0].value is '0'"),
        ("variants/fp32/file", MISSING, "manifest.variants.fp32 lacks file"),
        ("variants/fp32/precision", {"Conv": 16}, "manifest.variants.fp32.precision.Conv is 16"),
        ("files/fp32.onnx/size", "10", "manifest.files.'fp32.onnx'.size is '10'"),
    ],
)
def test_a_wrong_field_is_named(place: str, value: Any, complaint: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(changed(place, value))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("preprocessing/channels", [], "preprocessing.channels is empty"),
        ("preprocessing/channels", ["T1", "T2"], "normalization has 1 entries for 2 channels"),
        ("preprocessing/transpose_forward", [0, 1, 1], "transpose_forward"),
        ("preprocessing/orientation", "RAX", "orientation"),
        ("preprocessing/orientation", "RAL", "orientation"),
        ("preprocessing/orientation", "RASR", "orientation"),
        ("preprocessing/spacing", [1, 0, 1], "spacing"),
        ("preprocessing/resampling/order", 6, "preprocessing.resampling"),
        ("preprocessing/logits_resampling/order_z", -1, "preprocessing.logits_resampling"),
        ("preprocessing/normalization/0", {"scheme": "ct"}, "normalization[0] is ct"),
        (
            "preprocessing/normalization/0",
            {"scheme": "ct", "mean": 0, "std": 0, "lower": 0, "upper": 1},
            "std above zero",
        ),
        (
            "preprocessing/normalization/0",
            {"scheme": "ct", "mean": 0, "std": 1, "lower": 1, "upper": 1},
            "lower below upper",
        ),
        ("tiling/tile", [8, 0, 8], "tiling.tile"),
        ("tiling/step", 0, "tiling.step"),
        ("tiling/step", 1.01, "tiling.step"),
        ("tiling/mirror_axes", [3], "tiling.mirror_axes"),
        ("tiling/mirror_axes", [1, 1], "tiling.mirror_axes"),
        ("output/labels", [], "output.labels"),
        ("output/labels/1/value", 2, "expected 0, 1 and so on"),
        ("output/labels/1/value", 0, "different ones"),
        ("output/labels/1/value", 65536, "different ones from 0 to 65535"),
        ("output/labels/1/value", -1, "different ones from 0 to 65535"),
        (
            "output/regions",
            [{"name": "a", "labels": [1], "value": 2}],
            "output.regions[0] paints 2",
        ),
        (
            "output/regions",
            [{"name": "a", "labels": [1], "value": 0}],
            "output.regions[0] paints 0",
        ),
        ("variants", {}, "variants lacks fp32"),
        ("variants/fp32/file", "other.onnx", "files does not list 'other.onnx'"),
        ("files/fp32.onnx/size", -1, "sha256 and size for 'fp32.onnx'"),
        ("files/fp32.onnx/sha256", "0" * 63, "sha256 and size for 'fp32.onnx'"),
        ("files/fp32.onnx/sha256", "A" * 64, "sha256 and size for 'fp32.onnx'"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    place: str, value: Any, complaint: str
) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(changed(place, value))
    assert str(caught.value).startswith("manifest.json contradicts itself: ")
    assert complaint in str(caught.value)


HOSTILE_NAMES = [
    *("../x", "/etc/passwd", "a/../b", "a//b", "./a", "", ".", "..", "a/", ".hidden", "a/.b"),
    *("a\\b", "C:x", "a\0b", "a\nb", "-rf", "a/../../y", "~/x", "a b", "caf\u00e9"),
]


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


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        ("2.0", "install a newer segmaformer"),
        ("10.0", "install a newer segmaformer"),
        ("0.9", "export it again"),
        ("1", "expected '1.0'"),
        ("1.0.0", "expected '1.0'"),
        ("1.x", "expected '1.0'"),
        ("1.-1", "expected '1.0'"),
        ("\u0661.\u0660", "expected '1.0'"),
        ("1." + "0" * 5000, "expected '1.0'"),
        (1.0, "expected '1.0'"),
        (None, "expected '1.0'"),
        (MISSING, "expected '1.0'"),
    ],
)
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


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{'a': 1}", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "beyond the range"),
        ('{"a": 1, "a": 2}', "the key a stands twice"),
        ("[]", "expected one JSON object"),
        ("null", "expected one JSON object"),
        ('"text"', "expected one JSON object"),
    ],
)
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
@settings(max_examples=25, deadline=None)
def test_any_bytes_are_either_read_or_refused(content: bytes) -> None:
    with pytest.raises(PackageError):
        parse_manifest(content)


@given(place=st.integers(0, 10_000), value=JSON_VALUES)
@settings(max_examples=25, deadline=None)
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
    """Every (container, key) of a JSON document."""
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
