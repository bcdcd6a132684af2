"""Manifests, right and wrong, for all readers."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

from hypothesis import strategies as st
from support.packages.samples import sample_manifest

from segmaformer.runtime.package.codes import Code, LabelCodes, coded_names
from segmaformer.runtime.package.manifest import FileRecord, Manifest, Network, Variant
from segmaformer.runtime.spec import (
    KeepLargest,
    Label,
    Normalization,
    Output,
    Preprocessing,
    Reader,
    Region,
    Resampling,
    Tiling,
)

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
    st.sampled_from(["zscore", "none", "rescale01", "rescale01_slices", "rgb01", "zscore_nonzero"]),
    st.booleans(),
) | st.builds(
    Normalization,
    st.sampled_from(["ct", "clip"]),
    mean=FINITE,
    std=POSITIVE,
    lower=st.floats(-1e3, 0),
    upper=st.floats(1, 1e3),
)
RESAMPLINGS = st.builds(
    Resampling, st.integers(0, 5), st.integers(0, 5), st.none() | st.booleans(), POSITIVE
) | st.builds(Resampling, st.just(1), st.just(0), st.booleans(), POSITIVE, st.just("torch"))
FIRST_VOXELS = st.builds(
    Resampling, st.integers(0, 1), separate_z=st.just(False), alignment=st.just("first_voxels")
)
RESIZINGS = st.builds(
    Resampling,
    st.integers(0, 1),
    separate_z=st.just(False),
    method=st.sampled_from(["torch", "area", "floor"]),
    alignment=st.sampled_from(["borders", "end_voxels"]),
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
KIDNEY = LabelCodes(
    Code("SCT", "91723000", "Anatomical Structure"),
    Code("SCT", "64033007", "Kidney"),
    Code("SCT", "7771000", "Left"),
)
CODES: dict[str, Any] = dataclasses.asdict(KIDNEY)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    channels = draw(st.integers(1, 3))
    normalization = draw(st.lists(NORMALIZATIONS, min_size=channels, max_size=channels))
    cropped = draw(st.booleans())
    shape = draw(st.none() | TRIPLES)
    resampling, logits_resampling = draw(
        st.tuples(RESIZINGS, RESIZINGS)
        if shape
        else st.tuples(RESAMPLINGS, RESAMPLINGS) | st.tuples(FIRST_VOXELS, FIRST_VOXELS)
    )
    spacing = (
        None if shape else draw(st.none() | st.tuples(st.none() | POSITIVE, POSITIVE, POSITIVE))
    )
    preprocessing = Preprocessing(
        channels=tuple(draw(st.lists(TEXT, min_size=channels, max_size=channels))),
        normalization=tuple(normalization),
        orientation=draw(st.sampled_from([None, "RAS", "LPS", "ASR"])),
        transpose_forward=draw(st.permutations([0, 1, 2]).map(tuple)),
        crop_to_nonzero=cropped,
        spacing=spacing,
        shape=shape,
        resampling=resampling,
        logits_resampling=logits_resampling,
        reader=draw(st.sampled_from([None, *typing.get_args(Reader)])),
        crop_above=None if cropped else draw(st.none() | FINITE),
        resample_first=not any(each.use_mask for each in normalization) and draw(st.booleans()),
    )
    axes = draw(st.sets(st.integers(0, 2)))
    tiling = Tiling(draw(TRIPLES), draw(st.floats(0.1, 1)), draw(st.booleans()), tuple(axes))
    objects = st.dictionaries(TEXT, JSON_VALUES, max_size=3)
    texts = st.dictionaries(TEXT, TEXT, max_size=3)
    variants = {
        name: Variant(f"{name}.onnx", draw(texts), draw(objects))
        for name in draw(st.sampled_from([["fp32"], ["fp32", "fp16"]]))
    }
    output = draw(OUTPUTS)
    if logits_resampling.order <= 1 and draw(st.booleans()):
        output = dataclasses.replace(output, interpolated="probabilities")
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
        output=output,
        variants=variants,
        verification_tiles=draw(TEXT),
        software=draw(texts),
        created=draw(TEXT),
        files={v.file: FileRecord(draw(DIGESTS), draw(COUNTS)) for v in variants.values()},
        calibration=draw(st.none() | objects),
        codes=draw(st.dictionaries(st.sampled_from(coded_names(output)), st.just(KIDNEY))),
        postprocessing=draw(
            st.lists(
                st.builds(
                    KeepLargest,
                    st.just((output.labels[1].value,)),
                    components=st.integers(1, 65535),
                    connectivity=st.integers(1, 3),
                    equals_stay=st.booleans(),
                ),
                max_size=2,
            ).map(tuple)
        ),
    )


MISSING = object()


def changed(place: str, value: Any) -> str:
    """Return the sample manifest as JSON with the field at the dotted `place` replaced."""
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


WRONG_FIELDS: list[Any] = [
    ("variants/fp32/parity", 5, "manifest.variants.fp32.parity is 5; expected an object"),
    ("variants/fp32/parity/dice", 5, "fp32.parity.dice is 5; expected an object"),
    ("variants/fp32/parity/dice", {"0": "x"}, "is 'x'; expected a number"),
    ("variants/fp32/parity/label_agreement", {}, "label_agreement is {}; expected a number"),
    ("variants/fp32/parity/relative_error", "0", "relative_error is '0'; expected a number"),
    ("calibration", 5, "manifest.calibration is 5; expected an object"),
    ("calibration", {"variants": 5}, "manifest.calibration.variants is 5; expected an object"),
    ("codes", 5, "manifest.codes is 5; expected an object"),
    ("codes", {"a": {"category": CODES["category"]}}, "manifest.codes.a lacks type"),
    ("codes", {"a": {**CODES, "side": "left"}}, "manifest.codes.a has unknown fields: side"),
    ("codes", {"a": {**CODES, "type": "Liver"}}, "codes.a.type is 'Liver'; expected an object"),
    (
        "codes",
        {"a": {**CODES, "type": {**CODES["type"], "value": 64033007}}},
        "codes.a.type.value is 64033007; expected a text",
    ),
    ("variants", 5, "manifest.variants is 5; expected an object"),
    ("files", 5, "manifest.files is 5; expected an object"),
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
    ("preprocessing/resampling/method", "itk", "resampling.method is 'itk'; expected one of sp"),
    ("preprocessing/reader", "itk", "manifest.preprocessing.reader is 'itk'; expected one of nib"),
    ("tiling/tile", [8, 8, 8.5], "manifest.tiling.tile[2] is 8.5; expected an integer"),
    ("tiling/tile", [8, 8], "manifest.tiling.tile is [8, 8]; expected 3 entries"),
    ("tiling/step", True, "manifest.tiling.step is True; expected a number"),
    ("tiling/step", None, "manifest.tiling.step is None; expected a number"),
    ("previous_stage", {"labels": 1}, "manifest.previous_stage.labels is 1; expected a list"),
    ("postprocessing", {}, "manifest.postprocessing is {}; expected a list"),
    ("postprocessing", [{"fill_holes": [1]}], "manifest.postprocessing[0]"),
    ("postprocessing", [{"keep_largest": 1}], "postprocessing[0].keep_largest is 1; expected a li"),
    ("output/labels/0/value", "0", "manifest.output.labels[0].value is '0'"),
    ("variants/fp32/file", MISSING, "manifest.variants.fp32 lacks file"),
    ("variants/fp32/precision", {"Conv": 16}, "manifest.variants.fp32.precision.Conv is 16"),
    ("files/fp32.onnx/size", "10", "manifest.files.'fp32.onnx'.size is '10'"),
]
"""Place, value, and what the message says."""

CONTRADICTIONS: list[Any] = [
    ("preprocessing/channels", [], "preprocessing.channels is empty"),
    ("preprocessing/channels", ["T1", "T2"], "normalization has 1 entries for 2 channels"),
    ("preprocessing/transpose_forward", [0, 1, 1], "transpose_forward"),
    ("preprocessing/orientation", "RAX", "orientation"),
    ("preprocessing/orientation", "RAL", "orientation"),
    ("preprocessing/orientation", "RASR", "orientation"),
    ("preprocessing/spacing", [1, 0, 1], "spacing"),
    ("preprocessing/resampling/order", 6, "preprocessing.resampling"),
    ("preprocessing/resampling/method", "torch", "has an order above 1"),
    ("preprocessing/spacing", [None, 0, 1], "spacing"),
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
    ("preprocessing/normalization/0", {"scheme": "clip"}, "expected mean"),
    ("preprocessing/crop_above", 0, "crop_above beside crop_to_nonzero"),
    ("preprocessing/resampling/alignment", "first_voxels", "separate_z false"),
    ("preprocessing/resampling/alignment", "first_voxels", "in two ways"),
    ("preprocessing/resampling/alignment", "centres", "single scans alone"),
    ("preprocessing/resampling/method", "area", "separate_z false"),
    ("preprocessing/shape", [96, 96, 0], "expected voxels above zero"),
    ("tiling/tile", [8, 0, 8], "tiling.tile"),
    ("tiling/tile", [2048, 2048, 1024], "tiling.tile"),
    ("tiling/tile", [2**62, 2**62, 2**62], "tiling.tile"),
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
    ("postprocessing", [{"keep_largest": []}], "postprocessing[0] keeps []; expected some of"),
    ("postprocessing", [{"keep_largest": [1, 0]}], "keeps [1, 0]; expected some of the labels [1]"),
    ("postprocessing", [{"keep_largest": [2]}], "postprocessing[0] keeps [2]"),
    ("postprocessing", [{"keep_largest": [-1]}], "postprocessing[0] keeps [-1]"),
    ("postprocessing", [{"keep_largest": [1], "components": 0}], "keeps 0 components"),
    ("postprocessing", [{"keep_largest": [1], "connectivity": 4}], "of connectivity 4"),
    ("previous_stage", {"labels": []}, "previous_stage.labels are (); expected different ones"),
    ("previous_stage", {"labels": [1, 1]}, "previous_stage.labels are (1, 1)"),
    ("previous_stage", {"labels": [0, 1]}, "previous_stage.labels are (0, 1)"),
    (
        "previous_stage",
        {"labels": [1], "resampling": {"order": 3}},
        "previous_stage.resampling is no order 0 or 1",
    ),
    ("previous_stage", {"labels": [1]}, "files does not list previous_stage/manifest.json"),
    ("variants", {}, "variants lacks fp32"),
    ("variants/fp32/file", "other.onnx", "files does not list 'other.onnx'"),
    ("files/fp32.onnx/size", -1, "sha256 and size for 'fp32.onnx'"),
    ("files/fp32.onnx/sha256", "0" * 63, "sha256 and size for 'fp32.onnx'"),
    ("files/fp32.onnx/sha256", "A" * 64, "sha256 and size for 'fp32.onnx'"),
]
"""Place, value, and what the message says."""

OTHER_VERSIONS: list[Any] = [
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
]
"""Value of format_version, and what the message says."""

NO_OBJECTS: list[Any] = [
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
]
"""Text, and what the message says."""

HOSTILE_NAMES = [
    *("../x", "/etc/passwd", "a/../b", "a//b", "./a", "", ".", "..", "a/", ".hidden", "a/.b"),
    *("a\\b", "C:x", "a\0b", "a\nb", "-rf", "a/../../y", "~/x", "a b", "caf\u00e9"),
]
