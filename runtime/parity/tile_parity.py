"""Parity of a network with its reference: the gate that every variant must pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import EARLIER_BOUND, EXACT_VARIANT, Manifest
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.spec import Output

ROUNDING_BOUND = 2e-5
"""Bound for float32: largest difference over the range of the logits. Ten times the rounding of
most networks, and a fifth of the error of one norm that sums carelessly."""
NOISE_FACTOR = 2
"""Bound for float32 of a network whose own rounding is larger: this many times PyTorch's error
against float64, the usual difference of two computations as good as PyTorch's."""
MIN_AGREEMENT = 0.999
MIN_DICE = 0.999
"""Bounds for float16: share of voxels with the same label, and Dice of every label present."""


@dataclass
class TileParity:
    """Comparison of one variant with its reference over all tiles so far.

    Attributes
    ----------
    reference
        Name of the reference, for people.
    largest_error
        Largest difference, in units of the logits.
    bound
        Largest `relative_error` of float32 that passes.
    noise
        PyTorch's own error over the range of the logits, if it was measured; else None.
    tile_errors
        Largest difference on each tile, in units of the logits.
    worst
        Tile, channel and voxel of `largest_error`.
    """

    output: Output
    reference: str = "PyTorch float32"
    bound: float = ROUNDING_BOUND
    noise: float | None = None
    tiles: int = 0
    voxels: int = 0
    agreeing: int = 0
    largest_error: float = 0.0
    lowest: float = np.inf
    highest: float = -np.inf
    tile_errors: list[float] = field(default_factory=list)
    worst: tuple[int, ...] = ()
    common: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def add(self, logits: np.ndarray, reference: np.ndarray) -> None:
        """Compare the logits (K, D, H, W) of one tile with the reference's.

        Raises
        ------
        ValueError
            The shapes differ.
        """
        if logits.shape != reference.shape:
            raise ValueError(f"logits have shape {logits.shape}; the reference {reference.shape}")
        self._add_errors(logits, reference)
        self.add_labels(*(logits_to_labels(each, self.output) for each in (logits, reference)))
        self.tiles += 1

    def add_sampled(
        self, logits: np.ndarray, reference: np.ndarray, labels: np.ndarray, step: tuple[int, ...]
    ) -> None:
        """Compare one tile with a reference of which some logits and all labels are known.

        Parameters
        ----------
        logits
            Shape (K, D, H, W).
        reference
            Logits of every ``step``-th voxel, starting with the first, shape (K, d, h, w).
        labels
            Labels of the reference, shape (D, H, W).
        step
            Distance of known logits along D, H and W.

        Raises
        ------
        ValueError
            The shapes do not fit each other.
        """
        sampled = logits[(slice(None), *(slice(None, None, each) for each in step))]
        if sampled.shape != reference.shape or logits.shape[1:] != labels.shape:
            raise ValueError(
                f"logits have shape {logits.shape}; the reference {reference.shape} and "
                f"{labels.shape} at steps of {step}"
            )
        self._add_errors(sampled, reference, step)
        self.add_labels(logits_to_labels(logits, self.output), labels)
        self.tiles += 1

    def _add_errors(
        self, logits: np.ndarray, reference: np.ndarray, step: tuple[int, ...] = (1, 1, 1)
    ) -> None:
        # Channel by channel: all of a tile in float64 would take several times its memory.
        largest = 0.0
        for channel, (found, expected) in enumerate(zip(logits, reference, strict=True)):
            error = np.abs(found.astype(np.float64) - expected)
            error[np.isnan(error)] = np.inf
            largest = max(largest, float(error.max()))
            if error.max() > self.largest_error:
                self.largest_error = float(error.max())
                voxel = np.unravel_index(int(error.argmax()), error.shape)
                places = (int(index) * each for index, each in zip(voxel, step, strict=True))
                self.worst = (self.tiles, channel, *places)
        self.tile_errors.append(largest)
        self.lowest = min(self.lowest, float(reference.min()))
        self.highest = max(self.highest, float(reference.max()))

    def add_labels(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Compare two label maps of one shape; :meth:`add` does so for logits."""
        self.voxels += expected.size
        self.agreeing += int((found == expected).sum())
        for value in np.union1d(found, expected).tolist():
            in_found, in_expected = found == value, expected == value
            both = int((in_found & in_expected).sum())
            self.common[value] = self.common.get(value, 0) + both
            total = int(in_found.sum()) + int(in_expected.sum())
            self.sizes[value] = self.sizes.get(value, 0) + total

    @property
    def relative_error(self) -> float:
        """Largest error over the range of the reference's logits."""
        span = self.logit_range
        return self.largest_error / span if span > 0 else float(self.largest_error > 0)

    @property
    def logit_range(self) -> float:
        """Highest minus lowest logit of the reference."""
        return self.highest - self.lowest

    @property
    def agreement(self) -> float:
        """Share of voxels with the same label, 0 to 1."""
        return self.agreeing / self.voxels

    @property
    def dice(self) -> dict[int, float]:
        """Dice between variant and reference, for every label of either."""
        return {value: 2 * self.common[value] / size for value, size in sorted(self.sizes.items())}

    def shortcomings(self, *, exact: bool) -> list[str]:
        """List the bounds that are missed: of float32 if `exact`, else of labels."""
        return self._logit_shortcomings() if exact else self._label_shortcomings()

    def _logit_shortcomings(self) -> list[str]:
        if self.relative_error <= self.bound:
            return []
        return [
            f"logits differ by {self.relative_error:.2g} of their range "
            f"(at most {self.bound:.2g}); {self._worst_place()}"
        ]

    def _label_shortcomings(self) -> list[str]:
        found = [
            f"Dice of label {value} is {dice:.5f} (at least {MIN_DICE:g})"
            for value, dice in self.dice.items()
            if dice < MIN_DICE
        ]
        if self.agreement < MIN_AGREEMENT:
            found.insert(
                0, f"{self.agreement:.4%} of labels are equal (at least {MIN_AGREEMENT:.1%})"
            )
        return [*found, self._worst_place()] if found else []

    def _worst_place(self) -> str:
        tile, channel, *voxel = self.worst
        return (
            f"the largest error, {self.largest_error:.3g}, is at tile {tile}, channel {channel}, "
            f"voxel {tuple(voxel)}"
        )

    def record(self, *, exact: bool = False) -> dict[str, Any]:
        """Describe the figures for the manifest; with bound and noise if `exact`."""
        return {
            "reference": self.reference,
            "tiles": self.tiles,
            "largest_error": self.largest_error,
            "relative_error": self.relative_error,
            **({"bound": self.bound, "noise": self.noise} if exact else {}),
            "label_agreement": self.agreement,
            "dice": {str(value): dice for value, dice in self.dice.items()},
        }


def export_bound(noise: float | None) -> float:
    """Compute the largest error over the range of the logits at which float32 passes the export.

    Parameters
    ----------
    noise
        PyTorch's float32 error against its float64, over the range of the logits; None if the
        variant's error was too small to need it.
    """
    return max(ROUNDING_BOUND, NOISE_FACTOR * (noise or 0.0))


def bound_elsewhere(manifest: Manifest) -> float:
    """Compute the bound for a package's float32 on another machine or backend.

    It is the bound of the export plus the error, recorded in the package, of the results it is
    compared with there: PyTorch's float32 or ONNX Runtime's.

    Raises
    ------
    PackageError
        The manifest records a value that is no number.
    """
    variant = manifest.variants[EXACT_VARIANT]
    if "bound" not in variant.parity:
        return EARLIER_BOUND
    bound, error, noise = (_number(variant.parity, key) for key in _FIGURES)
    return bound + max(error, noise)


_FIGURES = ("bound", "relative_error", "noise")


def _number(record: Mapping[str, Any], key: str) -> float:
    found: Any = record.get(key)
    if found is None and key == "noise":
        return 0.0
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    if not is_number or not 0 <= found < np.inf:
        raise PackageError(
            f"manifest.json: variants.{EXACT_VARIANT}.parity.{key} is {found!r:.80}; expected a "
            "number of at least 0"
        )
    return float(found)
