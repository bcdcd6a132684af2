"""Recognition of files given as a checkpoint that are none, by their first bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from segmaformer.runtime.scans.file_kinds import START_BYTES, FileKind, file_kind, inflated_start

_SCAN = "Give the network's checkpoint; scans go to `sgmf infer`"
_SAVE = (
    "Load it where it was written and save its weights, torch.save(model.state_dict(), "
    "'weights.pth')"
)
_EXPORTED = "Give the PyTorch checkpoint that it was exported from"
_OTHER_NETWORK = "Networks are read from PyTorch's checkpoints and from safetensors"


def _begins(*beginnings: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda start: start[at:].startswith(beginnings)


def _is_nifti(start: bytes) -> bool:
    magic_at = {348: 344, 540: 4}
    return any(
        start[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big"))
        and start[at : at + 2] in (b"n+", b"ni")
        for size, at in magic_at.items()
    )


def _is_onnx(start: bytes) -> bool:
    """Tell if a file begins as exporters write ONNX: the IR version, then another model field."""
    other_fields = b"\x12\x1a\x22\x28\x32\x3a\x42"
    return len(start) > 2 and start[0] == 8 and 1 <= start[1] <= 20 and start[2] in other_fields


def _is_metaimage(start: bytes) -> bool:
    return start.lstrip().startswith((b"ObjectType", b"NDims")) and b"=" in start[:64]


_KINDS: tuple[tuple[Callable[[bytes], bool], FileKind], ...] = (
    (_is_nifti, FileKind("a NIfTI scan", _SCAN)),
    (_begins(b"DICM", at=128), FileKind("a DICOM file", _SCAN)),
    (_begins(b"NRRD000"), FileKind("an NRRD scan", _SCAN)),
    (_is_metaimage, FileKind("a MetaImage scan", _SCAN)),
    (
        _begins(b"\x89HDF\r\n\x1a\n"),
        FileKind("an HDF5 file, such as the weights of Keras", _OTHER_NETWORK),
    ),
    (_is_onnx, FileKind("an ONNX model", _EXPORTED)),
    (_begins(b"ORTM", at=4), FileKind("a model in ONNX Runtime's own format", _EXPORTED)),
    (_begins(b"TFL3", at=4), FileKind("a TensorFlow Lite model", _OTHER_NETWORK)),
    (_begins(b"GGUF"), FileKind("a GGUF model", _OTHER_NETWORK)),
    (_begins(b"\x93NUMPY"), FileKind("a NumPy array", _SAVE)),
    (_begins(b"MATLAB 5.0"), FileKind("a MATLAB file", _SAVE)),
    (_begins(b"\x7fELF"), FileKind("a program or a library", "Give the checkpoint itself")),
)

_OF_SCANS = ("FreeSurfer", "NIfTI pair", "Analyze", "MINC", "VTK")
"""Words in the names of kinds whose advice is about a scan to segment."""


def start_of(path: Path) -> bytes:
    """Read the first bytes of a regular file; never wait for a pipe.

    Raises
    ------
    ValueError
        The path is no regular file, but a pipe, a socket or a device.
    OSError
        The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no regular file but a pipe, a socket or a device")
        return file.read(START_BYTES)


def complain_about_stranger(start: bytes, path: Path) -> str:
    """Describe a file that is no checkpoint, by its first bytes.

    Parameters
    ----------
    start
        Bytes from :func:`start_of` that begin neither a zip of ``torch.save`` nor safetensors.
    path
        Name of the file in the message.
    """
    kind = _kind(start)
    if kind is not None:
        return f"{path} is {kind.name}; expected a checkpoint. {kind.advice}"
    if path.suffix == ".img" and path.with_suffix(".hdr").exists():
        return f"{path} is the image of a NIfTI pair; expected a checkpoint. {_SCAN}"
    return (
        f"{path} is no readable checkpoint: it begins with {_shown(start)}; expected a file that "
        "torch.save has written, or safetensors"
    )


def _kind(start: bytes) -> FileKind | None:
    if start.startswith(b"\x1f\x8b"):
        inside = inflated_start(start)
        kind = None if inside.startswith(b"\x1f\x8b") else _plain_kind(inside)
        if kind is not None:
            return FileKind(f"{kind.name}, compressed by gzip", kind.advice)
        return file_kind(start) or FileKind("compressed by gzip", "Run gunzip on it")
    return _plain_kind(start)


def _plain_kind(start: bytes) -> FileKind | None:
    for fits, kind in _KINDS:
        if fits(start):
            return kind
    if len(start) >= 64 and not start.strip(b"\0"):
        return FileKind("a file of zero bytes, as an unfinished download leaves", "Fetch it again")
    if start.startswith(b"\x80") and start[1:2] <= b"\x05":
        return FileKind(
            "a Python pickle that torch.save did not write, so it was not opened", _SAVE
        )
    found = file_kind(start)
    if found is not None and any(name in found.name for name in _OF_SCANS):
        return FileKind(found.name, _SCAN)
    if found is not None and "checkpoint" in found.advice:  # inside gzip
        return FileKind(found.name, "Run gunzip on it and give the result")
    return found


def _shown(start: bytes) -> str:
    text = start[:12]
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in text):
        return repr(text.decode())
    return start[:8].hex(" ")
