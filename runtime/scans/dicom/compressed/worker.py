"""Process that decodes compressed images, with bounds on its memory and time.

Decoders are written in C and read what strangers wrote. One that fails ends this process and not
the one that asked. Requests are lines of JSON on standard input; an answer on standard output is a
line of JSON, followed by the image's bytes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import warnings
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.compressed.codestream import check_codestream
from segmaformer.runtime.scans.dicom.compressed.fragments import read_spans
from segmaformer.runtime.scans.dicom.encoding import transfer_syntax

_MODULES = {
    "jpeg": "pydicom.pixels.decoders.base",
    "jpeg-ls": "jpeg_ls",
    "jpeg2000": "openjpeg",
}
_SPARE_BYTES = 192 << 20
_COPIES = 16
_SECONDS, _SECONDS_PER_VOXEL = 3.0, 1e-5


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asked ends this process
    warnings.simplefilter("ignore")
    bounded = False
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            if not bounded:
                _bound_memory(request)
                bounded = True
            _bound_time(request)
            image = _decoded(request)
        except (InputError, MemoryError, OSError) as error:
            _answer(answers, {"error": str(error) or "its image needs too much memory"})
        except Exception as error:  # decoders raise what they like, with texts of the file
            what = f"its image cannot be decoded ({type(error).__name__})"
            _answer(answers, {"error": f"{what}; copy it again from its source"})
        else:
            _answer(answers, {"bytes": len(image)}, image)


def _answer(answers: BinaryIO, head: dict[str, Any], image: bytes = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n" + image)
    answers.flush()


def _decoded(request: dict[str, Any]) -> bytes:
    """Decode the image of a request; return its stored numbers, little endian, row by row."""
    rows, columns, width = request["rows"], request["columns"], request["bits_allocated"] // 8
    with open(os.fsencode(request["path"]), "rb") as stream:
        data = read_spans(stream, request["spans"])
    syntax = transfer_syntax(request["syntax"])
    if syntax is None:
        raise InputError("its transfer syntax cannot be decoded")
    check_codestream(data, syntax.coding, rows, columns, width)
    if syntax.coding == "jpeg-ls":
        array = _decode_jpeg_ls(data, request)
    elif syntax.coding == "jpeg2000":
        array = _decode_jpeg2000(data, request)
    else:
        array = _decode_jpeg(data, request, "pillow" if syntax.decoder == "PIL" else "gdcm")
    if array.shape != (rows, columns) or array.dtype.itemsize != width:
        raise InputError(
            f"an image was decoded to {array.shape}, {array.dtype}; its header says "
            f"{(rows, columns)} and {8 * width} bits"
        )
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _decode_jpeg_ls(data: bytes, request: dict[str, Any]) -> npt.NDArray[Any]:
    import jpeg_ls

    pixels, facts = jpeg_ls.decode_pixel_data(data)
    return _stored(pixels, facts["bits_per_sample"], request)


def _decode_jpeg2000(data: bytes, request: dict[str, Any]) -> npt.NDArray[Any]:
    from openjpeg.utils import decode_pixel_data, get_parameters

    bits = int(get_parameters(data)["precision"])
    return _stored(bytes(decode_pixel_data(data, version=2)), bits, request)


def _stored(pixels: bytes, bits: int, request: dict[str, Any]) -> npt.NDArray[Any]:
    """Return decoded numbers as wide as the header says.

    The header tells their sign: codestreams may not know it, or know another one. So the highest
    bit that the codestream counts is the sign's.
    """
    held = next(size for size in (1, 2, 4) if bits <= 8 * size)
    width = request["bits_allocated"] // 8
    if held > width:
        raise InputError(f"an image is compressed with {bits} bits; its header says {8 * width}")
    kind, above = "i" if request["signed"] else "u", 8 * held - bits
    numbers = (np.frombuffer(pixels, f"<u{held}") << above).view(f"<{kind}{held}") >> above
    stored = numbers.astype(f"<{kind}{width}", copy=False).view(f"<u{width}")
    return stored.reshape(request["rows"], request["columns"])


def _decode_jpeg(data: bytes, request: dict[str, Any], plugin: str) -> npt.NDArray[Any]:
    """Decode by pydicom, and by none of its plugins that happens to be there."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    options: dict[str, Any] = {
        "rows": request["rows"],
        "columns": request["columns"],
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": request["bits_allocated"],
        "bits_stored": request["bits_stored"],
        "pixel_representation": int(request["signed"]),
        "pixel_keyword": "PixelData",
        "decoding_plugin": plugin,
    }
    decoder = get_decoder(UID(request["syntax"]))
    array, _ = decoder.as_array(encapsulate([data], has_bot=False), index=0, raw=True, **options)
    return array


def _bound_memory(request: dict[str, Any]) -> None:
    """Let this process grow by some copies of an image and no more, once its decoder is loaded."""
    syntax = transfer_syntax(request["syntax"])
    if syntax is not None:
        importlib.import_module(_MODULES[syntax.coding])
    frame_bytes = request["rows"] * request["columns"] * request["bits_allocated"] // 8
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", "rb") as stream:
        used = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most = used + _SPARE_BYTES + _COPIES * frame_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _bound_time(request: dict[str, Any]) -> None:
    """Let a decoder compute for some seconds; then the signal ends this process."""
    seconds = _SECONDS + _SECONDS_PER_VOXEL * request["rows"] * request["columns"]
    signal.setitimer(signal.ITIMER_PROF, seconds)
