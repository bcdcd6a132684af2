"""Recognition of files given by mistake, by their first bytes and not their name."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

START_BYTES = 4096
"""Number of first bytes that decide a file's kind."""

DICOM_AT, DICOM_MAGIC = 128, b"DICM"
"""Bytes that mark a DICOM file, and their place behind its preamble."""

_GZIP = b"\x1f\x8b"
_ANALYZE_BYTES = 348
_ANALYZE_SIZES = (_ANALYZE_BYTES.to_bytes(4, "little"), _ANALYZE_BYTES.to_bytes(4, "big"))
_UNPACK = "Unpack it, and give a file from inside"
_CHECKPOINT = "`sgmf export` takes checkpoints"
_PICTURE = "Give the scan itself, not a picture of it"
_DOCUMENT = "It may be an error page that was downloaded in place of the file; download it again"


@dataclass(frozen=True)
class FileKind:
    """Kind of a file, for a message.

    Attributes
    ----------
    name
        Name with its article, such as ``a PNG picture``.
    advice
        Advice, a sentence without its full stop.
    """

    name: str
    advice: str


PAIR = FileKind(
    "one half of a NIfTI pair (.hdr and .img)", "Convert the pair to one .nii or .nii.gz file"
)
"""Kind of a pair's header; the voxels, an .img, cannot be recognised by their bytes."""

_LFS = FileKind("a Git LFS pointer, not the file itself", "Run `git lfs pull` in its repository")
_DICOM = FileKind(
    "a DICOM file, one image of a scan as a rule", "`sgmf infer` takes the folder of its series"
)
_ANALYZE = FileKind(
    "an Analyze 7.5 header, which does not tell left from right",
    "Convert the scan to NIfTI again from its source",
)
_MGH = FileKind(
    "a FreeSurfer volume (MGH or MGZ)", "Run `mri_convert` to make a .nii.gz file of it"
)
_TORCH = FileKind("a PyTorch checkpoint", _CHECKPOINT)
_PICKLE = FileKind("a Python pickle, such as an old PyTorch checkpoint", _CHECKPOINT)
_SAFETENSORS = FileKind("a safetensors file of weights", _CHECKPOINT)
_ZIP = FileKind("a zip archive", _UNPACK)
_TAR = FileKind("a tar archive", _UNPACK)
_HTML = FileKind("an HTML page", _DOCUMENT)
_XML = FileKind("an XML document", _DOCUMENT)
_TWICE = FileKind("compressed by gzip twice", "Run gunzip on it once")
_TEXT_SCANS = (b"NRRD000", b"ObjectType", b"NDims")
_PACKED_SCAN = FileKind(
    "a NRRD or MetaImage file, compressed as a whole by gzip", "Run gunzip on it"
)

_MAGIC: tuple[tuple[bytes, FileKind], ...] = (
    (b"version https://git-lfs.github.com/spec/", _LFS),
    (b"\x89PNG\r\n\x1a\n", FileKind("a PNG picture", _PICTURE)),
    (b"\xff\xd8\xff", FileKind("a JPEG picture", _PICTURE)),
    (b"GIF8", FileKind("a GIF picture", _PICTURE)),
    (b"II*\0", FileKind("a TIFF picture", _PICTURE)),
    (b"MM\0*", FileKind("a TIFF picture", _PICTURE)),
    (b"%PDF-", FileKind("a PDF document", "Give the intended file")),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 or MINC 2 file", "Convert the scan to NIfTI")),
    (b"CDF\x01", FileKind("a MINC or NetCDF file", "Convert the scan to NIfTI")),
    (b"MATLAB 5.0 MAT-file", FileKind("a MATLAB file", "Convert the scan to NIfTI")),
    (b"\x93NUMPY", FileKind("a NumPy array, without a position in space", "Save it as NIfTI")),
    (b"# vtk DataFile", FileKind("a VTK file", "Convert the scan to NIfTI")),
    (b"BZh", FileKind("compressed by bzip2", _UNPACK)),
    (b"\xfd7zXZ\0", FileKind("compressed by xz", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("compressed by Zstandard", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", _UNPACK)),
    (b"Rar!\x1a\x07", FileKind("a RAR archive", _UNPACK)),
)


def file_kind(start: bytes) -> FileKind | None:
    """Recognise a file that is no scan of the supported formats; None if it is unknown.

    Parameters
    ----------
    start
        First `START_BYTES` bytes of the file.

    Returns
    -------
    FileKind or None
        Kind of the file, or of what gzip compressed in it. Checkpoints have a kind, so a reader of
        checkpoints tries its own formats first.
    """
    if not start.startswith(_GZIP):
        return _plain_kind(start)
    inside = inflated_start(start)
    if inside.startswith(_GZIP):
        return _TWICE
    if inside.startswith(_TEXT_SCANS):
        return _PACKED_SCAN
    kind = _plain_kind(inside)
    if kind is None or kind is _MGH:
        return kind
    return FileKind(f"{kind.name}, compressed by gzip", kind.advice)


def inflated_start(start: bytes) -> bytes:
    """Unpack the first bytes of a gzip file, of all its members; damage ends them."""
    inside = b""
    while start.startswith(_GZIP) and len(inside) < START_BYTES:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            inside += member.decompress(start, START_BYTES - len(inside))
        except zlib.error:
            break
        start = member.unused_data
    return inside


def _plain_kind(start: bytes) -> FileKind | None:
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start[128:132] == b"DICM":
        return _DICOM
    if start[344:347] == b"ni1" or start[4:7] == b"ni2":
        return PAIR
    if start.startswith(b"PK\x03\x04"):
        return _TORCH if b"data.pkl" in start else _ZIP
    if start[257:262] == b"ustar":
        return _TAR
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    return _text_kind(start) or _binary_kind(start)


def _text_kind(start: bytes) -> FileKind | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return _HTML
    return _XML if text.startswith(b"<?xml") else None


def _binary_kind(start: bytes) -> FileKind | None:
    """Recognise kinds by numbers at the start, rather than letters."""
    if int.from_bytes(start[:8], "little") < 1 << 32 and start[8:10] == b'{"':
        return _SAFETENSORS
    if start[:4] == b"\0\0\0\1" and _has_mgh_numbers(start):
        return _MGH
    is_analyze = start[:4] in _ANALYZE_SIZES and len(start) >= _ANALYZE_BYTES
    return _ANALYZE if is_analyze and start[344:348] != b"n+1\0" else None


def _has_mgh_numbers(start: bytes) -> bool:
    numbers = [int.from_bytes(start[at : at + 4], "big") for at in range(4, 24, 4)]
    *lengths, kind = numbers
    return len(start) >= 24 and all(0 < length < 1 << 20 for length in lengths) and kind <= 10
