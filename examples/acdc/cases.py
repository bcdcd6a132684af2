"""Prepared cases of a folder, divided by patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Case:
    """A scan on the network's grid.

    Attributes
    ----------
    name
        Name of the scan's file without its suffix.
    image
        Normalised intensities (1, D, H, W).
    labels
        Shape (D, H, W), uint8.
    """

    name: str
    image: torch.Tensor = field(repr=False)
    labels: torch.Tensor = field(repr=False)

    @property
    def patient(self) -> str:
        """Return the part of the name before the frame."""
        return self.name.partition("_")[0]


def read_case(path: Path) -> Case:
    """Read what prepare.py wrote."""
    with np.load(path) as arrays:
        return Case(path.stem, *(torch.from_numpy(arrays[key]) for key in ("image", "labels")))


def divide(cases: list[Case]) -> tuple[list[Case], list[Case]]:
    """Hold out both phases of every fifth patient in name order.

    Returns
    -------
    training, held_out
    """
    patients = sorted({case.patient for case in cases})
    kept_back = set(patients[::HELD_OUT])
    training = [case for case in cases if case.patient not in kept_back]
    return training, [case for case in cases if case.patient in kept_back]
