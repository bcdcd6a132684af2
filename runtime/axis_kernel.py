"""The native library's kernel that resamples one axis, as a function of NumPy arrays."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from segmaformer.runtime.op_library import call_kernel

Reals = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class _AxisResampleArgs(ctypes.Structure):
    """Mirror of ``sgmf_axis_resample_args``."""

    _fields_ = (
        ("source_is_double", ctypes.c_int32),
        ("target_is_double", ctypes.c_int32),
        ("outer", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("source", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
    )


@dataclass(frozen=True, eq=False)
class AxisOperator:
    """A sparse matrix (count, length) that acts along one axis.

    Result i is the sum of ``weights[t] * source[columns[t]]`` over t from ``starts[i]`` to
    ``starts[i + 1]``, added up in that order in float64.
    """

    length: int
    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    @classmethod
    def from_matrix(cls, matrix: sparse.csr_array) -> AxisOperator:
        """Operator of a matrix (count, length), float64."""
        starts, columns = (part.astype(np.int64) for part in (matrix.indptr, matrix.indices))
        return cls(matrix.shape[1], starts, columns, matrix.data)

    @classmethod
    def identity(cls, length: int) -> AxisOperator:
        """Operator that changes nothing."""
        return cls(length, np.arange(length + 1), np.arange(length), np.ones(length))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def needed(self) -> npt.NDArray[np.int64]:
        """How many voxels of the source, from the first, each result and those before need."""
        return np.maximum.accumulate(np.maximum.reduceat(self.columns, self.starts[:-1])) + 1

    @property
    def reach(self) -> int:
        """Voxels of the source to keep while results are computed in order."""
        first = np.minimum.reduceat(self.columns, self.starts[:-1])
        kept_from = np.minimum.accumulate(first[::-1])[::-1]
        return int((self.needed - kept_from).max())

    @property
    def overshoots(self) -> bool:
        """Whether results may leave the range of the source: some weight is negative."""
        return bool((self.weights < 0).any())

    def part(self, begin: int, end: int, slots: int) -> AxisOperator:
        """Results `begin` to `end`, of a source whose voxel i lies in place i modulo `slots`."""
        taps = slice(self.starts[begin], self.starts[end])
        starts = self.starts[begin : end + 1] - self.starts[begin]
        return AxisOperator(slots, starts, self.columns[taps] % slots, self.weights[taps])


def resample_axis(
    source: Reals,
    operator: AxisOperator,
    axis: int,
    target: Reals,
    *,
    bounds: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
    threads: int,
) -> None:
    """Apply an operator along one axis of `source`.

    Parameters
    ----------
    source
        Float32 or float64, in C order.
    operator
        Of the length of `source` along `axis`.
    axis
        Not negative.
    target
        Filled; of the operator's length along `axis` and otherwise the shape of `source`;
        float32 or float64, in C order.
    bounds
        Least and largest values of the results for each position along the axes before
        `axis`; None leaves them as they are.
    threads
        Threads to use; 0 takes every available processor.

    Raises
    ------
    ValueError
        The arrays do not suit each other.
    """
    shape = (*source.shape[:axis], len(operator), *source.shape[axis + 1 :])
    if source.shape[axis] != operator.length or target.shape != shape:
        raise ValueError(
            f"an operator ({len(operator)}, {operator.length}) along axis {axis} does not bring "
            f"{source.shape} to {target.shape}"
        )
    for array in (source, target):
        if not array.flags.c_contiguous or array.dtype not in (np.float32, np.float64):
            raise ValueError("the arrays are not float32 or float64 in C order")
    outer = int(np.prod(source.shape[:axis]))
    low, high = bounds or (None, None)
    args = _AxisResampleArgs(
        source_is_double=source.dtype == np.float64,
        target_is_double=target.dtype == np.float64,
        outer=outer,
        length=operator.length,
        count=len(operator),
        inner=int(np.prod(source.shape[axis + 1 :])),
        source=source.ctypes.data,
        target=target.ctypes.data,
        starts=operator.starts.ctypes.data,
        columns=operator.columns.ctypes.data,
        weights=operator.weights.ctypes.data,
        low=_address(low, outer),
        high=_address(high, outer),
    )
    call_kernel("sgmf_axis_resample", args, threads)


def _address(bound: npt.NDArray[Any] | None, outer: int) -> int | None:
    if bound is None:
        return None
    if bound.shape != (outer,) or bound.dtype != np.float64 or not bound.flags.c_contiguous:
        raise ValueError(f"bounds are {bound.dtype} {bound.shape}; expected float64 ({outer},)")
    return bound.ctypes.data
