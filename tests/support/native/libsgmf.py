"""libsgmf through ctypes, with the structs of the Python example."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from support.scripts import ROOT, load_script

from segmaformer.runtime.bindings.installed_library import installed_library

EXAMPLES = ROOT / "examples/embedding"
HEADER = ROOT / "runtime/native/include/sgmf.h"

Progress = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

example: Any = load_script(EXAMPLES / "segment_raw.py")
Sized, OpenOptions, Info = example.Sized, example.OpenOptions, example.Info
Volume, Labels = example.Volume, example.Labels


class RunOptions(Sized):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("reserved", ctypes.c_int32),
        ("progress", Progress),
        ("user_data", ctypes.c_void_p),
    )


class Entry(Sized):
    """Struct ``sgmf_input`` or ``sgmf_label``: a number and a name."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("number", ctypes.c_int32),
        ("name", ctypes.c_char_p),
    )


class Region(Sized):
    _fields_ = (
        *Entry._fields_,
        ("labels", ctypes.POINTER(ctypes.c_int32)),
        ("label_count", ctypes.c_int64),
    )


class Statistics(Sized):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("on_device", ctypes.c_int32),
        *((name, ctypes.c_double) for name in ("open_seconds", "warm_up_seconds")),
        *((f"{name}_seconds", ctypes.c_double) for name in ("preprocess", "network", "labels")),
        ("total_seconds", ctypes.c_double),
        ("tiles", ctypes.c_int64),
        ("peak_bytes", ctypes.c_int64),
    )


def library_path() -> Path:
    return installed_library("libsgmf", what="C library", remedy="reinstall segmaformer")


def onnxruntime_path() -> Path:
    """Return the path of the library in the wheel that Python imports."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(folder.glob("libonnxruntime.so*"))
    if not found:
        pytest.skip(f"no libonnxruntime.so in {folder}")
    return found[0]


class Handle:
    """Handle of libsgmf with the plain functions: statuses by name."""

    def __init__(
        self,
        package: Path | None,
        *,
        abi_version: int = 1,
        library: Path | None = None,
        **options: Any,
    ):
        self.library = ctypes.CDLL(str(library or library_path()))
        self.library.sgmf_status_name.restype = ctypes.c_char_p
        self.library.sgmf_message.restype = ctypes.c_char_p
        self.model = ctypes.c_void_p()
        given = {"backend_library": str(onnxruntime_path()).encode(), "threads": 1, **options}
        if package is not None:
            given["package_path"] = str(package).encode()
        message = ctypes.create_string_buffer(2048)
        opened = self.library.sgmf_open(
            ctypes.c_uint32(abi_version),
            ctypes.byref(OpenOptions(**given)),
            ctypes.byref(self.model),
            message,
            ctypes.c_uint64(len(message)),
        )
        self.opened = self.name(opened)
        self.open_message = message.value.decode()

    def __enter__(self) -> Handle:
        assert self.opened == "SGMF_OK", self.open_message
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.library.sgmf_close(self.model)
        self.model = ctypes.c_void_p()

    def name(self, status: int) -> str:
        name: bytes = self.library.sgmf_status_name(status)
        return name.decode()

    @property
    def message(self) -> str:
        text: bytes = self.library.sgmf_message(self.model)
        return text.decode()

    def call(self, function: str, *arguments: Any) -> str:
        """Call a function of the handle and return its status; structs go by reference."""
        passed = [
            ctypes.byref(a) if isinstance(a, ctypes.Structure | ctypes.c_int64) else a
            for a in arguments
        ]
        return self.name(getattr(self.library, f"sgmf_{function}")(self.model, *passed))

    def get(self, function: str, struct: Any, *index: int) -> Any:
        status = self.call(f"get_{function}", *index, struct)
        assert status == "SGMF_OK", self.message
        return struct

    def cancel(self) -> None:
        self.library.sgmf_cancel(self.model)

    def run(
        self,
        volume: Any,
        labels: Any,
        progress: Callable[[int, int], int] | None = None,
    ) -> str:
        def report(_: int | None, done: int, count: int) -> int:
            assert progress is not None
            return progress(done, count)

        callback = Progress(report) if progress else Progress()
        return self.call("run", volume, labels, RunOptions(progress=callback))


def volume_of(voxels: np.ndarray, affine: np.ndarray | None = None, /, **changes: Any) -> Any:
    """Describe voxels (C, X, Y, Z) as ``sgmf_volume``, which keeps them alive."""
    fields = {
        "element_type": example.ELEMENT_TYPES[voxels.dtype.name],
        "voxels": voxels.ctypes.data,
        "size_bytes": voxels.nbytes,
        "channels": voxels.shape[0],
        "shape": voxels.shape[1:],
        "strides": tuple(stride // voxels.itemsize for stride in voxels.strides),
        "affine": tuple((np.eye(4) if affine is None else affine).ravel()),
    }
    volume = Volume(**{**fields, **changes})
    volume.memory = voxels
    return volume


def labels_of(array: np.ndarray, /, **changes: Any) -> Any:
    """Describe an array (X, Y, Z) in Fortran order as ``sgmf_labels``."""
    fields = {
        "element_type": example.ELEMENT_TYPES[array.dtype.name],
        "labels": array.ctypes.data,
        "size_bytes": array.nbytes,
    }
    labels = Labels(**{**fields, **changes})
    labels.memory = array
    return labels
