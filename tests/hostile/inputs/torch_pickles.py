"""Pickles as ``torch.save`` writes them, of programs and of tensors that no program makes."""

from __future__ import annotations

import collections
import functools
import io
import operator
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from typing import Any


class Call:
    """Calls something when a careless program unpickles it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


PROGRAMS: dict[str, Call] = {
    "os.system": Call(os.system, "touch ran"),
    "builtins.eval": Call(eval, "open('ran', 'w')"),
    "builtins.exec": Call(exec, "open('ran', 'w')"),
    "builtins.getattr": Call(getattr, "text", "upper"),
    "builtins.open": Call(open, "ran", "w"),
    "subprocess.Popen": Call(subprocess.Popen, ["touch", "ran"]),
    "functools.partial": Call(functools.partial, os.system, "touch ran"),
    "operator.attrgetter": Call(operator.attrgetter, "system"),
}


def plain(name: str) -> bytes:
    """Pickle one name that a program calls with a command."""
    module, _, function = name.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"(X\x09\0\0\0touch rantR."


class _Storage:
    """Reference in a pickle to values that lie in another member of the archive."""

    def __init__(self, values: int, member: str = "0"):
        self.values, self.member = values, member


class _Tensor:
    """Reference in a pickle to a view of a storage."""

    def __init__(
        self, storage: _Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
    ):
        self.arguments = storage, offset, shape, strides, False, collections.OrderedDict()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        from torch import _utils

        return _utils._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, found: Any) -> Any:
        if not isinstance(found, _Storage):
            return None
        import torch

        return "storage", torch.FloatStorage, found.member, "cpu", found.values


_FOUR = _Storage(4)

TENSORS: dict[str, _Tensor] = {
    "a storage of terabytes": _Tensor(_Storage(10**12), (10**12,), (1,)),
    "a storage of 2^62 values": _Tensor(_Storage(2**62), (1,), (1,)),
    "a storage of fewer than no values": _Tensor(_Storage(-4), (4,), (1,)),
    "a storage that is not there": _Tensor(_Storage(4, "9"), (4,), (1,)),
    "a storage outside the archive": _Tensor(_Storage(4, "../../../etc/passwd"), (4,), (1,)),
    "more values than are stored": _Tensor(_FOUR, (5,), (1,)),
    "terabytes from four values": _Tensor(_FOUR, (10**12,), (1,)),
    "terabytes from one value": _Tensor(_FOUR, (10**6, 10**6), (0, 0)),
    "a negative shape": _Tensor(_FOUR, (-4,), (1,)),
    "a shape that overflows": _Tensor(_FOUR, (2**62, 4), (0, 0)),
    "a shape beyond 64 bits": _Tensor(_FOUR, (10**30,), (0,)),
    "negative strides": _Tensor(_FOUR, (4,), (-1,), 3),
    "strides that overflow": _Tensor(_FOUR, (2, 2), (2**62, 2**62)),
    "an offset before the storage": _Tensor(_FOUR, (4,), (1,), -8),
    "an offset behind the storage": _Tensor(_FOUR, (4,), (1,), 2**40),
    "more strides than axes": _Tensor(_FOUR, (4,), (1, 1)),
    "a thousand axes": _Tensor(_FOUR, (1,) * 1000, (1,) * 1000),
}


def archive(tensor: _Tensor) -> bytes:
    """Make a checkpoint of one tensor, whose storage has four values."""
    pickled, stream = io.BytesIO(), io.BytesIO()
    _Pickler(pickled, protocol=2).dump({"state_dict": {"encoder.weight": tensor}})
    with zipfile.ZipFile(stream, "w") as written:
        written.writestr("archive/data.pkl", pickled.getvalue())
        written.writestr("archive/data/0", bytes(16))
        written.writestr("archive/version", b"3\n")
    return stream.getvalue()
