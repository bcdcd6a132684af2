"""Reading of packages in C++, against Python's reading of the same bytes."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.native_builds import NATIVE, compile_library, json_headers
from support.packages.manifest_cases import (
    CONTRADICTIONS,
    HOSTILE_NAMES,
    NO_OBJECTS,
    OTHER_VERSIONS,
    WRONG_FIELDS,
    changed,
    manifests,
)
from support.packages.samples import edit_manifest, flip_byte, sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import FileRecord, Manifest, parse_manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.seal import seal
from segmaformer.runtime.spec import Alignment, NormalizationScheme, Resampling, ResamplingMethod

FACE = Path(__file__).with_name("package_face.cc")
SOURCES = [
    *(
        NATIVE / f"package/{name}.cc"
        for name in ("folder", "manifest", "manifest_checks", "package", "private_folder")
    ),
    *(NATIVE / f"package/{name}.cc" for name in ("sha256", "spec_json", "typed_json")),
    *(NATIVE / "package/signature").glob("*.cc"),
    NATIVE / "system/home_folder.cc",
]
SCHEMES = typing.get_args(NormalizationScheme)
ALIGNMENTS = typing.get_args(Alignment)
METHODS = typing.get_args(ResamplingMethod)
READ, REFUSED, NOT_FOUND = 0, 1, 2


class Verdict(NamedTuple):
    status: int
    text: str


class Face:
    """Load the functions of package_face.cc."""

    def __init__(self, path: Path):
        self._library = ctypes.CDLL(str(path))

    def sha256(self, content: bytes, piece: int) -> str:
        digest = ctypes.create_string_buffer(65)
        size, step = ctypes.c_size_t(len(content)), ctypes.c_size_t(piece)
        self._library.test_sha256(content, size, step, digest)
        return digest.value.decode()

    def manifest(self, content: bytes) -> Verdict:
        return self._verdict(self._library.test_manifest, content, ctypes.c_size_t(len(content)))

    def package(self, path: Path) -> Verdict:
        return self._verdict(self._library.test_package, os.fsencode(path))

    @staticmethod
    def _verdict(function: Any, *arguments: Any) -> Verdict:
        text = ctypes.create_string_buffer(1 << 20)
        status = function(*arguments, text, ctypes.c_size_t(len(text)))
        return Verdict(status, text.value.decode())


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Face:
    options = (f"-I{NATIVE}", "-isystem", str(json_headers()))
    output = tmp_path_factory.mktemp("package") / "libpackage_face.so"
    return Face(compile_library(output, [FACE, *SOURCES], *options, over_op_library=False))


@given(content=st.binary(max_size=300), piece=st.integers(1, 130))
@settings(max_examples=100)
def test_sha256_is_that_of_hashlib(face: Face, content: bytes, piece: int) -> None:
    assert face.sha256(content, piece) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [55, 56, 63, 64, 65, 119, 120, 128, 1_000_000])
def test_sha256_at_the_edges_of_blocks(face: Face, size: int) -> None:
    content = os.urandom(size)
    assert face.sha256(content, size) == hashlib.sha256(content).hexdigest()


def _number(value: float | None) -> str:
    return f"{0 if value is None else value:.17g}"


def _resampling(resampling: Resampling) -> list[str]:
    separate = -1 if resampling.separate_z is None else int(resampling.separate_z)
    return [
        f"order={resampling.order}",
        f"order_z={resampling.order_z}",
        f"separate_z={separate}",
        f"threshold={_number(resampling.anisotropy_threshold)}",
        f"alignment={ALIGNMENTS.index(resampling.alignment)}",
        f"method={METHODS.index(resampling.method)}",
    ]


def summary(manifest: Manifest) -> str:
    """Return the message of package_face.cc about a manifest."""
    spec, tiling = manifest.preprocessing, manifest.tiling
    lines = [f"name={manifest.name}", *(f"channel={name}" for name in spec.channels)]
    for each in spec.normalization:
        bounds = (each.mean, each.std, each.lower, each.upper)
        ct = bounds if each.scheme in ("ct", "clip") else (0,) * 4
        lines += [f"scheme={SCHEMES.index(each.scheme)}", f"use_mask={int(each.use_mask)}"]
        lines += [f"ct={_number(value)}" for value in ct]
    lines.append(f"orientation={spec.orientation or ''}")
    lines += [f"transpose_forward={axis}" for axis in spec.transpose_forward]
    lines.append(f"crop={int(spec.crop_to_nonzero)}")
    if spec.crop_above is not None:
        lines.append(f"crop_above={_number(spec.crop_above)}")
    lines.append(f"resample_first={int(spec.resample_first)}")
    spacing = [-1 if step is None else step for step in spec.spacing or (0, 0, 0)]
    lines += [f"spacing={_number(step)}" for step in spacing]
    lines += [f"shape={extent}" for extent in spec.shape or (0, 0, 0)]
    lines += _resampling(spec.resampling) + _resampling(spec.logits_resampling)
    lines.append(f"reader={spec.reader or ''}")
    lines += [f"tile={extent}" for extent in tiling.tile]
    lines += [f"step={_number(tiling.step)}", f"gaussian={int(tiling.gaussian)}"]
    lines += [f"mirror={axis}" for axis in tiling.mirror_axes]
    lines.append(f"tiling={('nnunet', 'monai').index(tiling.scheme)}")
    for label in manifest.output.labels:
        lines += [f"label={label.value}", f"label={label.name}"]
    lines += [f"paints={region.value}" for region in manifest.output.regions]
    lines.append(f"probabilities={int(manifest.output.interpolated == 'probabilities')}")
    for step in manifest.postprocessing:
        lines += [f"keeps={label}" for label in step.keep_largest]
        lines += [f"components={step.components}", f"connectivity={step.connectivity}"]
        lines.append(f"equals_stay={int(step.equals_stay)}")
    if stage := manifest.previous_stage:
        lines += [f"mask={label}" for label in stage.labels] + _resampling(stage.resampling)
    variants = sorted(manifest.variants.items())
    return "".join(f"{line}\n" for line in lines + [f"{n}={v.file}" for n, v in variants])


@given(manifests().filter(lambda manifest: "\0" not in summary(manifest)))
@settings(max_examples=100)
def test_manifests_are_read_alike(face: Face, manifest: Manifest) -> None:
    assert face.manifest(manifest.to_json().encode()) == (READ, summary(manifest))


def test_a_newer_minor_version_is_read_alike(face: Face) -> None:
    text = changed("format_version", "1.7").replace("{", '{"shading": {"a": 1},', 1)
    assert face.manifest(text.encode()) == (READ, summary(parse_manifest(text)))


@pytest.mark.parametrize(("place", "value", "_"), WRONG_FIELDS + CONTRADICTIONS)
def test_what_python_refuses_is_refused(face: Face, place: str, value: Any, _: str) -> None:
    verdict = face.manifest(changed(place, value).encode())
    assert verdict.status == REFUSED
    assert verdict.text.isprintable()


@pytest.mark.parametrize(("version", "complaint"), OTHER_VERSIONS)
def test_other_versions_are_refused(face: Face, version: Any, complaint: str) -> None:
    verdict = face.manifest(changed("format_version", version).encode())
    assert verdict.status == REFUSED
    remedy = complaint.replace("'1.0'", '"1.0"').replace("segmaformer", "libsgmf")
    assert remedy in verdict.text


@pytest.mark.parametrize(("text", "_"), NO_OBJECTS)
def test_what_is_no_json_object_is_refused(face: Face, text: str | bytes, _: str) -> None:
    content = text.encode() if isinstance(text, str) else text
    assert face.manifest(content).status == REFUSED


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_path_that_may_leave_the_package_is_refused(face: Face, name: str) -> None:
    files = {**sample_manifest().files, name: FileRecord("0" * 64, 1)}
    verdict = face.manifest(sample_manifest(files=files).to_json().encode())
    assert verdict.status == REFUSED
    assert "lead out of the package" in verdict.text


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_are_refused(face: Face, content: bytes) -> None:
    assert face.manifest(content).status == REFUSED


FILES = {"fp32.onnx": bytes(range(256)) * 3, "card.md": b"# sample\n", "engines/plan": b"\0" * 7}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "sample.sgmf"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    records = {n: FileRecord(hashlib.sha256(c).hexdigest(), len(c)) for n, c in FILES.items()}
    (folder / "manifest.json").write_bytes(seal(sample_manifest(files=records).to_json()))
    return folder


def test_an_intact_package_opens(face: Face, package: Path) -> None:
    assert face.package(package) == (READ, summary(Package.open(package).manifest))
    link = package.with_name("link")
    link.symlink_to(package)
    assert face.package(link).status == READ


def test_a_missing_package_is_not_found(face: Face, tmp_path: Path) -> None:
    verdict = face.package(tmp_path / "none.sgmf")
    assert verdict.status == NOT_FOUND
    assert "there is no package at" in verdict.text


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda path: flip_byte(path, 3),
    "flipped last bit": lambda path: flip_byte(path, -1),
    "one byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "missing": lambda path: path.unlink(),
    "folder": _replace_by_folder,
    "pipe": _replace_by_pipe,
    "link": _replace_by_link,
    "unreadable link": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(face: Face, package: Path, name: str, damage: str) -> None:
    DAMAGES[damage](package / name)
    with pytest.raises(PackageError):
        Package.open(package)
    assert face.package(package).status == REFUSED


def test_a_link_in_place_of_a_folder_is_refused(face: Face, package: Path) -> None:
    _replace_by_link(package / "engines")
    verdict = face.package(package)
    assert verdict.status == REFUSED
    assert "packages hold no links" in verdict.text


def test_what_is_no_package_is_refused(face: Face, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path, tmp_path / "file"):
        verdict = face.package(path)
        assert verdict.status == REFUSED
        assert "is no package" in verdict.text


@pytest.mark.parametrize("size", [10**30, 2**63 - 1, 2**62])
def test_a_size_beyond_any_memory_is_refused(face: Face, package: Path, size: int) -> None:
    edit_manifest(package, '"size": 9\n', f'"size": {size}\n')
    assert face.package(package).status == REFUSED


def test_a_huge_manifest_is_not_read(face: Face, package: Path) -> None:
    with (package / "manifest.json").open("r+b") as stream:
        stream.truncate(16 * 1024 * 1024 + 1)
    verdict = face.package(package)
    assert verdict.status == REFUSED
    assert "larger than 16 MiB" in verdict.text


def test_very_many_files_are_listed_in_no_time(face: Face) -> None:
    """Reading them by pairs would take a thousand times as long."""
    record = FileRecord("0" * 64, 1)
    files = {"fp32.onnx": record, **{f"f{number}": record for number in range(30_000)}}
    manifest = dataclasses.replace(sample_manifest(), files=files)
    content = manifest.to_json().encode()
    assert face.manifest(content).status == READ
