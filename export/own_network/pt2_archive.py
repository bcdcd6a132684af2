"""A ``.pt2`` file of ``torch.export.save``, read as data: a program in JSON, and its tensors.

PyTorch's loader unpickles members of the file and evaluates expressions in it, so it never sees
the file. Tensors are read from raw bytes, and the pickled example inputs are not opened.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from segmaformer.checkpoint.files.one_file import load_document
from segmaformer.checkpoint.files.zip_check import check_members
from segmaformer.runtime.errors import InputError

WAY_OUT: Final = (
    "save it again with a newer PyTorch (torch.export.save), give the module's code with --module, "
    "or, if you trust the file, convert it to ONNX"
)
SCHEMA: Final = 8
"""Major version of the program's schema."""

DTYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Types of elements by the number that the schema gives them."""

STRIDED: Final = 7
"""Number of the layout of dense tensors."""

_MOST_JSON_BYTES: Final = 1 << 26
_MOST_EXPANSION: Final = 20
"""Limit of all tensors' bytes, as a multiple of the file's; strides of zero repeat elements."""

_OLDER_PROGRAM: Final = "serialized_exported_program.json"


@dataclass(frozen=True, eq=False)
class ProgramFile:
    """Content of a ``.pt2`` file.

    Attributes
    ----------
    program
        ``ExportedProgram`` of PyTorch's schema, as JSON gives it; not checked yet.
    tensors
        Weights, buffers and constants by name.
    """

    program: dict[str, Any]
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Members:
    """Members of the archive by their name below its root folder."""

    archive: zipfile.ZipFile
    root: str
    names: frozenset[str]

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise InputError(f"it has no {name!r:.80}")
        return self.archive.read(self.root + name)

    def read_json(self, name: str) -> Any:
        size = self.archive.getinfo(self.root + name).file_size if name in self.names else 0
        if size > _MOST_JSON_BYTES:
            raise InputError(f"{name!r:.80} has {size} bytes; expected {_MOST_JSON_BYTES} at most")
        return json.loads(self.read(name))


def read_program(path: Path) -> ProgramFile:
    """Read a file that ``torch.export.save`` wrote, without running anything in it.

    Raises
    ------
    InputError
        The file is damaged, of another format or version, or holds what only unpickling reads.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            raise InputError(f"{path.name} is no .pt2 file: it is not a zip archive")
        file.seek(0)
        names, _ = check_members(file, path)
        with zipfile.ZipFile(file) as archive, refusing(path):
            return _read(archive, names, _MOST_EXPANSION * path.stat().st_size)


class refusing:  # noqa: N801 -- a context manager
    """Context in which what malformed content raises becomes an error that names the file."""

    def __init__(self, path: Path):
        self._name = path.name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, InputError):
            raise InputError(f"{self._name} cannot be taken: {error}") from error
        if isinstance(error, _MALFORMED):
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                f"{self._name} is not as torch.export.save writes it ({text:.200}); {WAY_OUT}"
            ) from error


_MALFORMED: Final = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _read(archive: zipfile.ZipFile, names: list[str], most_bytes: int) -> ProgramFile:
    if _OLDER_PROGRAM in names:
        return _read_older(_Members(archive, "", frozenset(names)))
    marks = [name for name in names if name.partition("/")[2] == "archive_format"]
    if len(marks) != 1:
        raise InputError(f"it is no archive of torch.export.save; {WAY_OUT}")
    root = marks[0].removesuffix("archive_format")
    inner = frozenset(name.removeprefix(root) for name in names if name.startswith(root))
    return _read_archive(_Members(archive, root, inner), most_bytes)


def _read_archive(members: _Members, most_bytes: int) -> ProgramFile:
    """Read the format of PyTorch 2.8 and later."""
    form = (members.read("archive_format"), members.read("archive_version"))
    if form != (b"pt2", b"0"):
        raise InputError(f"its format is {form}; expected pt2 of version 0. {WAY_OUT}")
    if "byteorder" in members.names and members.read("byteorder") != b"little":
        raise InputError(f"its tensors are big-endian; {WAY_OUT}")
    programs = [name for name in members.names if name.startswith("models/")]
    if len(programs) != 1:
        compiled = any(name.startswith("data/aotinductor/") for name in members.names)
        raise InputError(
            f"it holds {len(programs)} programs; expected one"
            + (". It is compiled code; give what torch.export.save wrote" if compiled else "")
        )
    name = programs[0].removeprefix("models/").removesuffix(".json")
    tensors: dict[str, torch.Tensor] = {}
    for kind in ("weights", "constants"):
        older = f"data/{kind}/{name}.pt"  # of PyTorch 2.8
        found = (
            _unpickled(members, older)
            if older in members.names
            else _raw_tensors(members, kind, name)
        )
        tensors |= found
    if sum(each.numel() * each.itemsize for each in tensors.values()) > most_bytes:
        raise InputError(f"its tensors repeat their bytes over {_MOST_EXPANSION} times; {WAY_OUT}")
    return ProgramFile(_checked_version(members.read_json(programs[0])), tensors)


def _read_older(members: _Members) -> ProgramFile:
    """Read the format of PyTorch 2.7 and earlier, whose tensors are pickled."""
    tensors = {
        **_unpickled(members, "serialized_state_dict.pt"),
        **_unpickled(members, "serialized_constants.pt"),
    }
    return ProgramFile(_checked_version(members.read_json(_OLDER_PROGRAM)), tensors)


def _checked_version(program: Any) -> dict[str, Any]:
    version = program["schema_version"]
    if version["major"] != SCHEMA:
        raise InputError(
            f"its schema has version {version['major']}.{version['minor']}; expected {SCHEMA}. "
            f"PyTorch {program.get('torch_version')!s:.40} wrote it; {WAY_OUT}"
        )
    return dict(program)


def _unpickled(members: _Members, name: str) -> dict[str, torch.Tensor]:
    """Read tensors that ``torch.save`` wrote, as a checkpoint is read: code in it is refused."""
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        file.write(members.read(name))
        file.flush()
        try:
            document, _ = load_document(Path(file.name))
        except InputError as error:
            found = str(error).replace(file.name, name)
            raise InputError(f"{found}. Otherwise {WAY_OUT}") from None
    if not isinstance(document, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in document.values()
    ):
        raise InputError(f"{name} holds more than tensors by name; {WAY_OUT}")
    return {str(key): value.detach() for key, value in document.items()}


def _raw_tensors(members: _Members, kind: str, name: str) -> dict[str, torch.Tensor]:
    payloads = members.read_json(f"data/{kind}/{name}_{kind}_config.json")["config"]
    content: dict[str, bytearray] = {}

    def bytes_of(file: str) -> bytearray:
        if file not in content:  # several tensors may lie in one
            content[file] = bytearray(members.read(f"data/{kind}/{file}"))
        return content[file]

    return {key: _raw_tensor(key, payload, bytes_of) for key, payload in payloads.items()}


def _raw_tensor(
    key: str, payload: dict[str, Any], bytes_of: Callable[[str], bytearray]
) -> torch.Tensor:
    meta = payload["tensor_meta"]
    if payload["use_pickle"] or meta is None:
        raise InputError(
            f"{key!r:.80} in it is pickled, and unpickling can run code: it is no plain tensor. "
            f"Make it one, or {WAY_OUT}"
        )
    if meta["layout"] != STRIDED or meta["dtype"] not in DTYPES:
        raise InputError(f"{key!r:.80} in it is no dense tensor of numbers; {WAY_OUT}")
    dtype = DTYPES[meta["dtype"]]
    sizes, strides = ([int(each["as_int"]) for each in meta[part]] for part in ("sizes", "strides"))
    offset = int(meta["storage_offset"]["as_int"])
    content = bytes_of(payload["path_name"])
    reach = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min((*sizes, *strides, offset), default=0) < 0:
        raise InputError(f"{key!r:.80} in it has negative sizes")
    if 0 in sizes:
        return torch.zeros(sizes, dtype=dtype)
    if (reach + 1) * dtype.itemsize > len(content):
        raise InputError(f"{key!r:.80} in it is larger than its {len(content)} bytes")
    flat = torch.frombuffer(content, dtype=dtype, count=len(content) // dtype.itemsize)
    return flat.as_strided(sizes, strides, offset)
