"""Segment a raw volume through libsgmf's C functions, with NumPy and nothing else of Python.

    python segment_raw.py LIBSGMF.so PACKAGE.sgmf HEADER.txt LABELS.raw

What it shows is how another language calls the library. A Python program would rather use
``segmaformer.runtime.Predictor``, which computes the same labels.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

ABI_VERSION = 1
_UNSIGNED, _SIGNED = ("uint8", "uint16", "uint32", "uint64"), ("int8", "int16", "int32", "int64")
ELEMENT_TYPES = {
    name: number
    for number, name in enumerate((*_UNSIGNED, *_SIGNED, "float32", "float64"), start=1)
}


class Sized(ctypes.Structure):
    """Struct of sgmf.h that begins with its own size."""

    def __init__(self, **members: object):
        super().__init__(struct_size=ctypes.sizeof(self), **members)


class OpenOptions(Sized):
    """Mirror of ``sgmf_open_options``."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("memory_budget_mib", ctypes.c_int64),
        ("package_path", ctypes.c_char_p),
        ("backend", ctypes.c_char_p),
        ("variant", ctypes.c_char_p),
        ("backend_library", ctypes.c_char_p),
        ("mirror", ctypes.c_int32),
        ("without_postprocessing", ctypes.c_int32),
        ("trusted_keys", ctypes.c_char_p),
        ("require_signature", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    )


class Info(Sized):
    """Mirror of ``sgmf_info``."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("inputs", "labels", "regions", "label_type")),
        ("threads", ctypes.c_int32),
        ("memory_budget_bytes", ctypes.c_int64),
        ("tile", ctypes.c_int64 * 3),
        ("spacing_mm", ctypes.c_double * 3),
        *((name, ctypes.c_char_p) for name in ("name", "network", "created", "format_version")),
        ("variant", ctypes.c_char_p),
        ("backend", ctypes.c_char_p),
        ("reader", ctypes.c_char_p),
        ("signer", ctypes.c_char_p),
    )


class Volume(Sized):
    """Mirror of ``sgmf_volume``."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("element_type", ctypes.c_int32),
        ("voxels", ctypes.c_void_p),
        ("size_bytes", ctypes.c_uint64),
        ("channels", ctypes.c_int64),
        ("shape", ctypes.c_int64 * 3),
        ("strides", ctypes.c_int64 * 4),
        ("affine", ctypes.c_double * 16),
        ("spacing_mm", ctypes.c_double * 3),
    )


class Labels(Sized):
    """Mirror of ``sgmf_labels``."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("element_type", ctypes.c_int32),
        ("labels", ctypes.c_void_p),
        ("size_bytes", ctypes.c_uint64),
        ("strides", ctypes.c_int64 * 3),
    )


class Model:
    """A package opened through the C functions.

    Parameters
    ----------
    library, package
        Paths of libsgmf and of the package.

    Raises
    ------
    RuntimeError
        What the library says is wrong.
    """

    def __init__(self, library: str, package: str):
        self._library = ctypes.CDLL(library)
        self._library.sgmf_message.restype = ctypes.c_char_p
        self._library.sgmf_message.argtypes = (ctypes.c_void_p,)
        self._library.sgmf_close.argtypes = (ctypes.c_void_p,)
        self._library.sgmf_get_info.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._library.sgmf_run.argtypes = (ctypes.c_void_p,) * 4
        self._handle = ctypes.c_void_p()
        message = ctypes.create_string_buffer(1024)
        options = OpenOptions(package_path=package.encode())
        if self._library.sgmf_open(
            ctypes.c_uint32(ABI_VERSION),
            ctypes.byref(options),
            ctypes.byref(self._handle),
            message,
            ctypes.c_uint64(len(message)),
        ):
            raise RuntimeError(message.value.decode())

    def close(self) -> None:
        """Free the handle."""
        self._library.sgmf_close(self._handle)
        self._handle = ctypes.c_void_p()

    def segment(self, voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Compute labels (X, Y, Z) of voxels (C, X, Y, Z) of any real type and memory order.

        Parameters
        ----------
        affine
            Matrix (4, 4) from voxel indices to millimetres along right, anterior, superior.
        """
        info = Info()
        self._require(self._library.sgmf_get_info(self._handle, ctypes.byref(info)))
        label_type = np.uint8 if info.label_type == ELEMENT_TYPES["uint8"] else np.uint16
        labels = np.empty(voxels.shape[1:], label_type, order="F")
        volume = Volume(
            element_type=ELEMENT_TYPES[voxels.dtype.name],
            voxels=voxels.ctypes.data,
            size_bytes=voxels.nbytes,
            channels=len(voxels),
            shape=voxels.shape[1:],
            strides=tuple(stride // voxels.itemsize for stride in voxels.strides),
            affine=tuple(affine.astype(np.float64).ravel()),
        )
        target = Labels(
            element_type=info.label_type, labels=labels.ctypes.data, size_bytes=labels.nbytes
        )
        self._require(
            self._library.sgmf_run(self._handle, ctypes.byref(volume), ctypes.byref(target), None)
        )
        return labels

    def _require(self, status: int) -> None:
        if status:
            raise RuntimeError(self._library.sgmf_message(self._handle).decode())


def read_raw(header: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels (C, X, Y, Z) and affine of a raw volume, with the header of raw_volume.h."""
    lines = dict(line.split(maxsplit=1) for line in header.read_text().splitlines() if line)
    shape = [int(extent) for extent in lines["shape"].split()]
    voxels = np.fromfile(header.parent / lines["data"].strip(), lines["type"].strip())
    affine = np.array(lines["affine"].split(), np.float64).reshape(4, 4)
    return voxels.reshape(int(lines["channels"]), *reversed(shape)).transpose(0, 3, 2, 1), affine


def main() -> None:
    """Run the command line in this file's first lines."""
    library, package, header, output = sys.argv[1:]
    model = Model(library, package)
    labels = model.segment(*read_raw(Path(header)))
    model.close()
    labels.ravel(order="F").tofile(output)
    counts = zip(*np.unique(labels, return_counts=True), strict=True)
    print(", ".join(f"label {value}: {count} voxels" for value, count in counts))


if __name__ == "__main__":
    main()
