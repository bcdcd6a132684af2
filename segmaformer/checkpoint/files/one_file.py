"""Reader of one file of weights, whose format is told by its first bytes.

Pickled files go through PyTorch's restricted unpickler. Beyond its defaults only NumPy scalars
are allowed, because nnU-Net stores its training log as such. There is no way around it: a file
that needs more is refused.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch

from segmaformer.checkpoint.files.foreign_files import complain_about_stranger, start_of
from segmaformer.checkpoint.files.safetensors_file import is_safetensors, load_safetensors
from segmaformer.checkpoint.files.zip_check import check_zip
from segmaformer.runtime.errors import InputError

_MOST_BYTES: Final = 64 << 30
_LEAST_SPARSE_BYTES: Final = 1 << 28
_LEAST_WRITTEN: Final = 1 / 16

_TORCH_MAGIC: Final = bytes.fromhex("6cfc9c46f9206aa85019")
"""Bytes of the number with which ``torch.save`` began before it wrote zip archives."""

_SCALAR_TYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "float16",
    "float32",
    "float64",
)


def load_document(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a file, and state the facts that could not be checked.

    Parameters
    ----------
    path
        Existing file, of any name.

    Raises
    ------
    InputError
        The file is no checkpoint, is damaged or would run code.
    MissingExtraError
        The file is in safetensors' format, and the safetensors package is not installed.
    """
    try:
        start = start_of(path)
    except ValueError as error:
        raise InputError(f"{error}; give the checkpoint file itself") from None
    _check_size(path)
    if is_safetensors(start):
        return load_safetensors(path), ()
    if start.startswith(b"PK\3\4"):
        with path.open("rb") as file:
            sentences = check_zip(file, path)
            return _unpickled(file, path), sentences
    if start.startswith(b"\x80") and _TORCH_MAGIC in start[:32]:
        with path.open("rb") as file:
            return _unpickled(file, path), ()
    raise InputError(complain_about_stranger(start, path))


def _check_size(path: Path) -> None:
    """Refuse an empty file, one beyond any checkpoint, and one that is mostly holes."""
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty; copy the checkpoint again")
    if size > _MOST_BYTES:
        raise InputError(f"{path} has {size >> 30} GiB; no checkpoint has over {_MOST_BYTES >> 30}")
    if size >= _LEAST_SPARSE_BYTES:
        written = _written_bytes(path, enough=int(size * _LEAST_WRITTEN))
        if written < size * _LEAST_WRITTEN:
            raise InputError(
                f"only {written >> 20} of the {size >> 20} MiB of {path} were ever written; the "
                "download or copy did not end: do it again"
            )


def _written_bytes(path: Path, *, enough: int) -> int:
    """Count the bytes of a file outside its holes; may stop at `enough`."""
    written = position = 0
    with path.open("rb") as file:
        while written < enough:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # only a hole follows
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            written += position - start
    return written


def _unpickled(file: IO[bytes], path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_scalar_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch also warns of the content it refuses
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise InputError(_pickle_complaint(path, str(error))) from None


def _numpy_scalar_globals() -> list[Any]:
    """List the globals of a pickled NumPy scalar: its constructor, `dtype` and its kinds.

    The constructor takes a type and raw bytes, so nothing else can be reached through it.
    NumPy 1 and 2 keep it in different modules.
    """
    rebuild_scalar = np.float64(0).__reduce__()[0]
    return [
        (rebuild_scalar, "numpy.core.multiarray.scalar"),
        (rebuild_scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(name)) for name in _SCALAR_TYPES),
    ]


def _pickle_complaint(path: Path, reason: str) -> str:
    """Explain PyTorch's refusal without repeating its advice to lift the restriction."""
    refused = re.search(r"GLOBAL (\S+)", reason)
    if refused:
        return (
            f"{path} asks to load {refused[1]}, which is more than tensors, numbers and text; such "
            "a file can run programs, so it was not opened. Where it was written and is trusted, "
            "save the weights alone, torch.save(model.state_dict(), 'weights.pth'), and give that"
        )
    detail = reason.rpartition("WeightsUnpickler error: ")[2].strip()
    sentence = re.split(r"\.\s", detail, maxsplit=1)[0].partition("\n")[0]
    return (
        f"{path} is no readable checkpoint" + (f" ({sentence})" if " " in sentence else "") + "; "
        "expected a file that torch.save has written, of tensors, numbers and text. If it is one, "
        "it is damaged: copy it again"
    )
