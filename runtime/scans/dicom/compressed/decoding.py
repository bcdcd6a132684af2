"""Decoding of compressed images by other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.compressed.fragments import Span
from segmaformer.runtime.scans.dicom.image_file import ImageFile
from segmaformer.runtime.scans.dicom.pixels import PixelFormat
from segmaformer.runtime.system.interruption import check

# Without the working folder on the path, where a stranger's file could have a module's name.
_PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from segmaformer.runtime.scans.dicom.compressed.worker import main; main()"
)
_IMAGES_PER_PROCESS = 4
_MOST_WAITING = 2


@dataclass(frozen=True)
class CompressedImage:
    """Image to decode.

    Attributes
    ----------
    index
        Index in the volume.
    spans
        Its fragments in the file.
    """

    index: int
    file: ImageFile
    format: PixelFormat
    spans: list[Span]

    def request(self) -> bytes:
        """Return the line that asks a worker for it."""
        form = self.format
        request = {
            "path": os.fsdecode(self.file.path),
            "syntax": self.file.opened.syntax_uid,
            "spans": self.spans,
            "rows": form.rows,
            "columns": form.columns,
            "bits_allocated": form.bits_allocated,
            "bits_stored": form.bits_stored,
            "signed": form.signed,
        }
        return json.dumps(request).encode() + b"\n"


def decoded(
    images: Iterable[CompressedImage], count: int
) -> Iterator[tuple[int, npt.NDArray[np.unsignedinteger[Any]]]]:
    """Decode images in as many processes as there are processors, at most.

    Parameters
    ----------
    images
        Images to decode.
    count
        Their number.

    Yields
    ------
    index, stored
        Index of an image, and its stored numbers (rows, columns), unsigned.

    Raises
    ------
    InputError
        An image is damaged, of another size than its header says, or needs too much memory or time.
    """
    number = max(1, min(available_processors(), count // _IMAGES_PER_PROCESS))
    waiting = deque[tuple[CompressedImage, subprocess.Popen[bytes]]]()
    with ExitStack() as ending:
        workers = [ending.enter_context(_worker()) for _ in range(number)]
        for turn, image in enumerate(images):
            worker = workers[turn % number]
            if len(waiting) == number * _MOST_WAITING:
                yield _answer(*waiting.popleft())
            _ask(image, worker)
            waiting.append((image, worker))
        while waiting:
            yield _answer(*waiting.popleft())


@contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=pipe, stdout=pipe, stderr=nowhere
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _ask(image: CompressedImage, worker: subprocess.Popen[bytes]) -> None:
    check()
    try:
        _stream(worker.stdin).write(image.request())
        _stream(worker.stdin).flush()
    except OSError:
        raise _ended(image) from None


def _answer(
    image: CompressedImage, worker: subprocess.Popen[bytes]
) -> tuple[int, npt.NDArray[np.unsignedinteger[Any]]]:
    answers = _stream(worker.stdout)
    line = answers.readline()
    if not line.endswith(b"\n"):
        raise _ended(image)
    head = json.loads(line)
    if "error" in head:
        raise InputError(f"{image.file.path}: {head['error']}")
    form = image.format
    content = answers.read(form.frame_bytes)
    if head["bytes"] != form.frame_bytes or len(content) < form.frame_bytes:
        raise _ended(image)
    stored = np.frombuffer(content, form.dtype("<")).reshape(form.rows, form.columns)
    return image.index, stored


def _ended(image: CompressedImage) -> InputError:
    return InputError(
        f"{image.file.path}: its image cannot be decoded within bounds of memory and time; copy it "
        "again from its source"
    )


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the worker has no pipes")
    return stream
