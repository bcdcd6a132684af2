"""Reader of safetensors, recognised by their header and not by the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmaformer.checkpoint.json_text import parse_json
from segmaformer.runtime.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import torch

_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000  # the format's limit


def is_safetensors(head: bytes) -> bool:
    """Tell if a file begins as safetensors do: the length of a JSON object, then the object."""
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and 2 <= length <= _MOST_HEADER_BYTES


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file by name.

    Raises
    ------
    InputError
        The file is damaged.
    MissingExtraError
        The safetensors package is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtraError(
            "reading safetensors needs the safetensors package: pip install 'segmaformer[export]'"
        ) from None
    _check_header(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None


def _check_header(path: Path) -> None:
    """Refuse a truncated file, and duplicate names, of which the reader would keep one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if _LENGTH_BYTES + length > size:
            raise _truncated(path, size, _LENGTH_BYTES + length)
        text = file.read(length)
    try:
        header = parse_json(text)
        needed = max((entry["data_offsets"][1] for name, entry in _entries(header)), default=0)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path} is damaged: its header is not as saved ({error})") from None
    if isinstance(needed, int) and _LENGTH_BYTES + length + needed > size:
        raise _truncated(path, size, _LENGTH_BYTES + length + needed)


def _entries(header: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, entry) for name, entry in header.items() if name != "__metadata__"]


def _truncated(path: Path, size: int, needed: int) -> InputError:
    return InputError(
        f"{path} is damaged: it has {size} of the {needed} bytes that it begins by stating; copy "
        "or download it again"
    )
