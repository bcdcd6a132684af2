from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmaformer.runtime.scans.file_kinds import START_BYTES, file_kind, inflated_start

VOXELS = np.arange(120, dtype=np.float32).reshape(4, 5, 6)


def zipped(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"content")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("scan.nii"))
    return stream.getvalue()


def nifti_pair() -> bytes:
    image = nibabel.Nifti1Pair(VOXELS, np.eye(4))
    header = image.header.copy()
    header["magic"] = b"ni1"
    return bytes(header.binaryblock)


MGH = nibabel.freesurfer.MGHImage(VOXELS, np.eye(4)).to_bytes()
NIFTI = nibabel.Nifti1Image(VOXELS, np.eye(4)).to_bytes()

KINDS = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
    "PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "JPEG picture": b"\xff\xd8\xff\xe0" + bytes(100),
    "DICOM file": bytes(128) + b"DICM" + bytes(100),
    "half of a NIfTI pair": nifti_pair(),
    "Analyze 7.5": bytes(nibabel.AnalyzeHeader().binaryblock),
    "FreeSurfer volume": MGH,
    "PyTorch checkpoint": zipped("archive/data.pkl"),
    "zip archive": zipped("scan.nii"),
    "tar archive": tarred(),
    "Python pickle": pickle.dumps({"state_dict": 1}),
    "safetensors": (9).to_bytes(8, "little") + b'{"a": {}}',
    "HTML page": b"\n<!DOCTYPE html>\n<html></html>",
    "XML document": b"\xef\xbb\xbf<?xml version='1.0'?>",
    "bzip2": b"BZh91AY",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "NumPy array": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_told_by_its_first_bytes(name: str) -> None:
    kind = file_kind(KINDS[name][:START_BYTES])
    assert kind is not None
    assert name in kind.name
    assert kind.advice[0].isupper() or kind.advice.startswith("`")
    assert not kind.advice.endswith(".")


@pytest.mark.parametrize("name", KINDS)
def test_what_gzip_compressed_is_told_too(name: str) -> None:
    kind = file_kind(gzip.compress(KINDS[name], mtime=0)[:START_BYTES])
    assert kind is not None
    assert name in kind.name


def test_gzip_twice_is_told() -> None:
    kind = file_kind(gzip.compress(gzip.compress(NIFTI, mtime=0), mtime=0)[:START_BYTES])
    assert kind is not None
    assert (kind.name, kind.advice) == ("compressed by gzip twice", "Run gunzip on it once")


@pytest.mark.parametrize("content", [b"NRRD0004\ntype: short\n", b"NDims = 3\n"])
def test_a_text_scan_compressed_as_a_whole_is_told(content: bytes) -> None:
    kind = file_kind(gzip.compress(content, mtime=0)[:START_BYTES])
    assert kind is not None
    assert "compressed as a whole by gzip" in kind.name


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a note\n",
        NIFTI,
        gzip.compress(NIFTI, mtime=0),
        gzip.compress(NIFTI, mtime=0)[:30],
        b"NRRD0004\ntype: short\n",
        b"ObjectType = Image\nNDims = 3\n",
        bytes(600),
        b"\x1f\x8b",
    ],
)
def test_scans_and_what_is_unknown_have_no_kind(content: bytes) -> None:
    assert file_kind(content[:START_BYTES]) is None


def test_real_scans_have_no_kind(data_dir: Path) -> None:
    scans = [*data_dir.rglob("*.nii"), *data_dir.rglob("*.nii.gz"), *data_dir.rglob("*.nrrd")]
    for path in scans:
        assert file_kind(path.read_bytes()[:START_BYTES]) is None, path


@given(st.binary(max_size=400))
def test_any_bytes_are_looked_at_without_an_error(start: bytes) -> None:
    file_kind(start)
    file_kind(b"\x1f\x8b" + start)


def test_no_more_is_unpacked_than_is_looked_at() -> None:
    assert (
        len(inflated_start(gzip.compress(bytes(10_000_000), mtime=0)[:START_BYTES])) <= START_BYTES
    )
