from __future__ import annotations

import gzip
import io
import os
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.files.one_file import load_document
from segmaformer.runtime.errors import InputError

VOXELS = np.zeros((4, 5, 6), np.float32)
NIFTI = nibabel.Nifti1Image(VOXELS, np.eye(4)).to_bytes()
NIFTI_2 = nibabel.Nifti2Image(VOXELS, np.eye(4)).to_bytes()
MGH = nibabel.freesurfer.MGHImage(VOXELS, np.eye(4)).to_bytes()
PAIR = bytearray(NIFTI[:348])
PAIR[344:348] = b"ni1\0"


def legacy() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


STRANGERS = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer.*pull"),
    "HTML": (b"\n<!DOCTYPE html><html>", "an HTML page.*download it again"),
    "XML": (b"<?xml version='1.0'?><Error>", "an XML document"),
    "NIfTI": (NIFTI, "a NIfTI scan; expected a checkpoint. Give the network's checkpoint"),
    "NIfTI-2": (NIFTI_2, "a NIfTI scan"),
    "NIfTI pair": (bytes(PAIR), "a NIfTI scan"),
    "NIfTI in gzip": (
        gzip.compress(NIFTI, mtime=0),
        "a NIfTI scan, compressed by gzip.*sgmf infer",
    ),
    "twice": (gzip.compress(gzip.compress(NIFTI, mtime=0), mtime=0), "compressed by gzip twice"),
    "MGH": (MGH, "a FreeSurfer volume.*sgmf infer"),
    "MGZ": (gzip.compress(MGH, mtime=0), "a FreeSurfer volume.*sgmf infer"),
    "DICOM": (bytes(128) + b"DICM" + bytes(60), "a DICOM file.*sgmf infer"),
    "NRRD": (b"NRRD0004\ntype: short\n", "an NRRD scan.*sgmf infer"),
    "MetaImage": (b"ObjectType = Image\nNDims = 3\n", "a MetaImage scan"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "an HDF5 file.*Keras"),
    "ONNX": (b"\x08\x0a\x12\x07pytorch", "an ONNX model.*exported from"),
    "ORT": (b"\x18\0\0\0ORTM" + bytes(60), "ONNX Runtime's own format"),
    "TFLite": (b"\x18\0\0\0TFL3" + bytes(60), "a TensorFlow Lite model"),
    "NumPy": (b"\x93NUMPY\1\0" + bytes(60), r"a NumPy array.*state_dict\(\)"),
    "checkpoint in gzip": (gzip.compress(legacy(), mtime=0), "gzip"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(60), "a PNG picture"),
    "pickle": (pickle.dumps({"a": [1.0]}), "a Python pickle that torch.save did not write"),
    "text": (b"hello world", "begins with 'hello world'"),
    "JSON": (b'{"weights": 1}', "no readable checkpoint: it begins with"),
    "noise": (bytes(range(200, 250)), "begins with c8 c9 ca cb"),
    "zeros": (bytes(1000), "a file of zero bytes"),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("file", ["file.pth", "model.safetensors", "noname"])
def test_a_file_is_told_by_its_first_bytes(tmp_path: Path, name: str, file: str) -> None:
    content, complaint = STRANGERS[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=f"(?s){complaint}") as refusal:
        load_document(tmp_path / file)
    assert "damage" not in str(refusal.value)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "file.pth").touch()
    with pytest.raises(InputError, match="is empty"):
        load_document(tmp_path / "file.pth")


def test_the_image_of_a_pair(tmp_path: Path) -> None:
    (tmp_path / "scan.hdr").write_bytes(bytes(PAIR))
    (tmp_path / "scan.img").write_bytes(np.arange(100.0).tobytes())
    with pytest.raises(InputError, match="image of a NIfTI pair"):
        load_document(tmp_path / "scan.img")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(InputError, match="no regular file but a pipe"):
        load_document(tmp_path / "pipe.pth")


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth", "noname"])
def test_safetensors_under_any_name(tmp_path: Path, file: str) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file({"a": torch.ones(3)}, tmp_path / file)
    document, _ = load_document(tmp_path / file)
    assert torch.equal(document["a"], torch.ones(3))


@pytest.mark.parametrize("file", ["model.safetensors", "model.ckpt"])
def test_torch_under_any_name(tmp_path: Path, file: str) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / file)
    document, _ = load_document(tmp_path / file)
    assert torch.equal(document["a"], torch.ones(3))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            with_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
            "damaged: it has",
        ),
        ((500).to_bytes(8, "little") + b'{"a":{}}', "damaged: it has 16 of the 508 bytes"),
        (with_header(b'{"a":{},"a":{}}'), "damaged: its header .*stands twice"),
        (with_header(b'{"a":3}'), "damaged: its header"),
        (with_header(b"{" * 9000), "damaged: its header"),
        (
            with_header(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}', bytes(4)),
            "not a readable safetensors file",
        ),
        (
            with_header(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                b'"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
                bytes(6),
            ),
            "not a readable safetensors file",
        ),
    ],
)
def test_damaged_safetensors(tmp_path: Path, content: bytes, complaint: str) -> None:
    pytest.importorskip("safetensors")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        load_document(tmp_path / "model.safetensors")
