"""Safetensors whose header is not what lies behind it, and indexes of several files."""

from __future__ import annotations

import functools
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.hostile_input import REFUSED, TAKEN, HostileInput
from hostile.inputs.checkpoint import command_if, document, read_checkpoint

NAME, INDEX = "model.safetensors", "model.safetensors.index.json"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SEGMENT = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}

ENTRIES: dict[str, Any] = {
    "no entries": {},
    "offsets beyond the file": {"a": {**SEGMENT, "data_offsets": [0, 10**15]}},
    "offsets beyond 64 bits": {"a": {**SEGMENT, "data_offsets": [0, 10**30]}},
    "negative offsets": {"a": {**SEGMENT, "data_offsets": [-16, 0]}},
    "offsets backwards": {"a": {**SEGMENT, "data_offsets": [16, 0]}},
    "offsets that overlap": {"a": SEGMENT, "b": SEGMENT},
    "a gap between offsets": {"a": {**SEGMENT, "shape": [2], "data_offsets": [8, 16]}},
    "offsets that are texts": {"a": {**SEGMENT, "data_offsets": ["0", "16"]}},
    "one offset": {"a": {**SEGMENT, "data_offsets": [16]}},
    "offsets of NaN": {"a": {**SEGMENT, "data_offsets": [0, float("nan")]}},
    "a shape that does not fit": {"a": {**SEGMENT, "shape": [5]}},
    "a negative shape": {"a": {**SEGMENT, "shape": [-4]}},
    "a shape that overflows": {"a": {**SEGMENT, "shape": [2**32, 2**32, 4]}},
    "an unknown type": {"a": {**SEGMENT, "dtype": "F1024\x1b[2J"}},
    "no type": {"a": {"shape": [4], "data_offsets": [0, 16]}},
    "a list": [1, 2],
    "an entry that is a list": {"a": [SEGMENT]},
    "metadata that is no text": {"__metadata__": {"a": [1]}, "a": SEGMENT},
    "strange weights": {"a": SEGMENT},
}

TEXTS: dict[str, bytes] = {
    "brackets without end": b'{"a":' + b"[" * 200_000,
    "a header that is no JSON": b'{"a": evil}',
    "a header that is no text": b'{"\xff\xfe": 1}',
    "a name twice": b'{"a":%s,"a":%s}' % ((json.dumps(SEGMENT).encode(),) * 2),
    "a number of 10,000 digits": b'{"a":' + b"9" * 10_000 + b"}",
}


def inputs() -> Iterator[HostileInput]:
    yield HostileInput("good", _good_file, read_checkpoint, TAKEN, command=command_if(TAKEN))
    for name, entries in ENTRIES.items():
        write = _file(_from_header(json.dumps(entries).encode(), bytes(16)))
        yield HostileInput(name, write, read_checkpoint, REFUSED)
    for name, header in TEXTS.items():
        yield HostileInput(name, _file(_from_header(header, bytes(16))), read_checkpoint, REFUSED)
    for name, stated in {"2^40": 2**40, "2^63": 2**63, "99,999,999": 99_999_999}.items():
        content = struct.pack("<Q", stated) + b"{" + b" " * 100
        yield HostileInput(f"a header of {name} bytes", _file(content), read_checkpoint, REFUSED)
    for name, change in _GOOD_CHANGED.items():
        yield HostileInput(name, change, read_checkpoint, REFUSED)
    yield HostileInput(
        "shards", functools.partial(_shards, {}), read_checkpoint, TAKEN, command=command_if(TAKEN)
    )
    yield HostileInput(
        "shards through links", _linked, read_checkpoint, TAKEN, command=command_if(TAKEN)
    )
    for name, make in _SHARDS_CHANGED.items():
        yield HostileInput(name, make, read_checkpoint, REFUSED)


def _file(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / NAME).write_bytes(content)
        _documents(folder)
        return folder / NAME

    return write


def _from_header(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _documents(folder: Path) -> None:
    found = document()["init_args"]
    for name, key in (("plans.json", "plans"), ("dataset.json", "dataset_json")):
        (folder / name).write_text(json.dumps(found[key]), encoding="utf-8")


def _weights() -> dict[str, Any]:
    return {name: tensor.contiguous() for name, tensor in document()["network_weights"].items()}


def _saved(weights: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    content: bytes = save(weights)
    return content


def _good_file(folder: Path) -> Path:
    return _file(_saved(_weights()))(folder)


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    return lambda folder: _file(change(_saved(_weights())))(folder)


def _diverged(folder: Path) -> Path:
    weights = _weights()
    weights["decoder.pred.bias"].fill_(float("nan"))
    return _file(_saved(weights))(folder)


_GOOD_CHANGED: dict[str, Callable[[Path], Path]] = {
    "the last byte cut off": _changed(lambda content: content[:-1]),
    "half of it": _changed(lambda content: content[: len(content) // 2]),
    "more bytes": _changed(lambda content: content + bytes(100)),
    "weights of NaN": _diverged,
}


def _shards(
    changes: dict[str, Any], folder: Path, *, prepare: Callable[[Path], object] | None = None
) -> Path:
    """Write two files and an index that places some weights elsewhere."""
    weights = _weights()
    names = list(weights)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    for part, half in zip(PARTS, halves, strict=True):
        (folder / part).write_bytes(_saved({name: weights[name] for name in half}))
    places = {name: part for part, half in zip(PARTS, halves, strict=True) for name in half}
    index = {"metadata": {}, "weight_map": {**places, **changes}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    _documents(folder)
    if prepare is not None:
        prepare(folder)
    return folder / INDEX


def _linked(folder: Path) -> Path:
    """Link names to files elsewhere, as caches of downloads do."""
    index = _shards({}, folder)
    (folder / "blobs").mkdir()
    for part in PARTS:
        (folder / part).rename(folder / "blobs" / part[:11])
        (folder / part).symlink_to(f"blobs/{part[:11]}")
    return index


def _prepared(prepare: Callable[[Path], object]) -> Callable[[Path], Path]:
    return lambda folder: _shards({}, folder, prepare=prepare)


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> None:
        (folder / PARTS[1]).unlink()
        make(folder / PARTS[1])

    return _prepared(prepare)


def _index(text: str) -> Callable[[Path], Path]:
    return _prepared(lambda folder: (folder / INDEX).write_text(text, encoding="utf-8"))


_SHARDS_CHANGED: dict[str, Callable[[Path], Path]] = {
    "a shard missing": _prepared(lambda folder: (folder / PARTS[0]).unlink()),
    "a shard cut off": _prepared(lambda folder: os.truncate(folder / PARTS[0], 5000)),
    "a shard that is a folder": _replaced(Path.mkdir),
    "a shard that is a pipe": _replaced(os.mkfifo),
    "a shard that is a link to itself": _replaced(lambda path: path.symlink_to(path.name)),
    "a shard that leads nowhere": _replaced(lambda path: path.symlink_to("nowhere")),
    "a shard that is the other one": _replaced(lambda path: path.symlink_to(PARTS[0])),
    **{
        f"a shard at {place!r}": functools.partial(_shards, {"decoder.pred.bias": place})
        for place in ("../x", "/etc/passwd", "a/b", "..\\x", "", ".", "..", "x\0y", 3, None, INDEX)
    },
    "a shard of a name of escapes": functools.partial(_shards, {"decoder.pred.bias": "\x1b[2J\n"}),
    "a weight that no shard has": functools.partial(_shards, {"evil\n": PARTS[0]}),
    "a lone shard": lambda folder: _shards({}, folder).with_name(PARTS[0]),
    **{
        f"an index of {text[:24]!r}": _index(text)
        for text in ("[]", "{}", "{", '{"weight_map": []}', '{"weight_map": {}}', '{"a":' * 9000)
    },
    "an index that says where twice": _index('{"weight_map": {"a": "x", "a": "y"}}'),
}
