"""Comparison of every scan of an exported graph with its definition, and with PyTorch's scans.

PyTorch and the graph run the same operator, so their logits agree even if it is wrong. Therefore
each scan of the graph is

1. recognised among those of PyTorch by its inputs and attributes, so that none has lost its
   direction or takes another input, and
2. computed from its inputs by :func:`scan_by_definition` in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segmaformer.export.scan_op import INPUTS
from segmaformer.export.verification.scan_recurrence import scan_by_definition
from segmaformer.export.verification.scan_samples import SampledScan
from segmaformer.runtime.system.interruption import check

SCAN_BOUND = 1e-5
"""Largest error over the range of a scan's result that passes. A scan's float32 is mostly within
1e-6; a step that is missing or in the wrong place shows by a thousand times as much."""

NOISE_FACTOR = 4
"""Bound where the memory of a scan is so long that float32 itself is off by more: this many times
the error of the definition in float32."""

INPUT_BOUND = 1e-2
"""Largest difference between an input in the graph and in PyTorch, over the largest value. Rounding
before the scan is far below, and another tensor far above."""

MOST_NAMED = 3
"""Number of wrong selective scans that a message names."""


@dataclass
class ScanCheck:
    """Comparison of the scans of a graph.

    Attributes
    ----------
    checked
        Number of selective scans.
    largest_error
        Largest error of any of them over the range of its result.
    bound
        Bound that applied to that scan.
    refusals
        Scans that are wrong, and why.
    """

    checked: int = 0
    largest_error: float = 0.0
    bound: float = SCAN_BOUND
    refusals: list[str] = field(default_factory=list)

    @property
    def figures(self) -> str:
        """Figures in a few words, for people."""
        return f"{self.checked} selective scans within {self.largest_error:.1e} of their definition"

    def shortcomings(self) -> list[str]:
        """List what is wrong, shortened."""
        more = len(self.refusals) - MOST_NAMED
        return [*self.refusals[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]

    def record(self) -> dict[str, Any]:
        """Describe the figures for the manifest."""
        return {
            "scans": self.checked,
            "scan_error": self.largest_error,
            "scan_bound": self.bound,
        }


def check_scans(
    found: Sequence[SampledScan], in_pytorch: Sequence[SampledScan] | None
) -> ScanCheck:
    """Compare the scans of a graph.

    Parameters
    ----------
    found
        Scans of the graph, with their results.
    in_pytorch
        Traces of the scans that PyTorch ran on the same tile. It may run more: what leads to no
        logits is not exported. None where PyTorch ran nothing: then only their definition counts.
    """
    result = ScanCheck(len(found))
    left = list(in_pytorch or ())
    for number, scan in enumerate(found, start=1):
        check()
        name = f"selective scan {number} of {len(found)} ({scan.name or 'unnamed'})"
        complaint = "" if in_pytorch is None else _take_match(scan, left)
        if complaint:
            result.refusals.append(f"{name} is none of PyTorch's: {complaint}")
        error, bound = _error(scan)
        if not error <= bound:
            result.refusals.append(
                f"{name} differs from its definition in float64 by {error:.1e} of its range (at "
                f"most {bound:.1e})"
            )
        if not error <= result.largest_error:
            result.largest_error, result.bound = error, bound
    return result


def _take_match(scan: SampledScan, left: list[SampledScan]) -> str:
    """Remove the first of PyTorch's scans that is `scan`; or say how the nearest differs."""
    trace = scan.trace()
    nearest: list[str] | None = None
    for other in left:
        differing = _differences(trace, other)
        if not differing:
            left.remove(other)
            return ""
        if nearest is None or len(differing) < len(nearest):
            nearest = [*differing, f"of {other.name} in PyTorch"]
    if nearest is None:
        return "no selective scan is left there"
    return f"it differs in {', '.join(nearest)}"


def _differences(scan: SampledScan, other: SampledScan) -> list[str]:
    flags = ("delta_softplus", "reverse")
    return [
        *(name for name in flags if getattr(scan, name) != getattr(other, name)),
        *(name for name in INPUTS if not _alike(scan.arrays.get(name), other.arrays.get(name))),
    ]


def _alike(here: np.ndarray | None, there: np.ndarray | None) -> bool:
    if here is None or there is None:
        return here is there
    if here.shape != there.shape:
        return False
    difference, largest = (np.abs(each).max(initial=0) for each in (here - there, there))
    return bool(difference <= INPUT_BOUND * largest)


def _error(scan: SampledScan) -> tuple[float, float]:
    """Return the error of a scan's result over its range, and the bound for it."""
    inputs = {name: array for name, array in scan.arrays.items() if name != "y"}
    flags = {"delta_softplus": scan.delta_softplus, "reverse": scan.reverse}
    exact = scan_by_definition(inputs, **flags)
    span = float(np.ptp(exact)) or 1.0
    error = float(np.abs(scan.arrays["y"] - exact).max()) / span
    if error <= SCAN_BOUND:
        return error, SCAN_BOUND
    rounded = scan_by_definition(inputs, **flags, dtype=np.float32)
    noise = float(np.abs(rounded - exact).max()) / span
    return error, max(SCAN_BOUND, NOISE_FACTOR * noise)
