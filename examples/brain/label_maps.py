"""Label maps of whole heads, divided into those to train on and those held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import torch
from classes import BACKGROUND, CLASS_OF_STRUCTURE, FLUID, STRUCTURES

HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A head at 1 mm.

    Attributes
    ----------
    name
        Name of the file without its suffix.
    structures
        Indices into ``STRUCTURES``, shape (D, H, W), uint8; axes point up, forward and right.
    brain
        First voxels and those after the last of the box around the brain's tissue, shape (2, 3).
        Fluid is left out: the maps have it far down the spine.
    """

    name: str
    structures: torch.Tensor = field(repr=False)
    brain: np.ndarray = field(repr=False)


def read_label_map(path: Path) -> LabelMap:
    """Read a label map of SynthSeg's training set.

    Raises
    ------
    ValueError
        The voxels are not cubes of 1 mm, or a value belongs to no structure.
    """
    stored = nibabel.as_closest_canonical(nibabel.load(path))
    spacing_mm = stored.header.get_zooms()
    if not np.allclose(spacing_mm, 1, atol=1e-3):
        raise ValueError(f"{path} has voxels of {spacing_mm} mm; expected 1 mm along each axis")
    numbers = np.asarray(stored.dataobj).transpose()
    index_of = {
        number: index for index, structure in enumerate(STRUCTURES) for number in structure.numbers
    }
    present = np.unique(numbers)
    if unknown := sorted(set(present.tolist()) - index_of.keys()):
        raise ValueError(f"{path} holds {unknown}; add these numbers to STRUCTURES in classes.py")
    table = np.zeros(int(present.max()) + 1, np.uint8)
    table[present] = [index_of[int(number)] for number in present]
    return label_map(path.name.partition(".")[0], torch.from_numpy(table[numbers]))


def label_map(name: str, structures: torch.Tensor) -> LabelMap:
    """Find the brain of a head that is given as indices into ``STRUCTURES``."""
    classes = classes_of(structures)
    places = ((classes != BACKGROUND) & (classes != FLUID)).nonzero()
    brain = torch.stack((places.amin(0), places.amax(0) + 1)).numpy()
    return LabelMap(name, structures, brain)


def classes_of(structures: torch.Tensor) -> torch.Tensor:
    """Return the class of every voxel, uint8."""
    return torch.tensor(CLASS_OF_STRUCTURE, dtype=torch.uint8)[structures.int()]


def divide(maps: list[LabelMap]) -> tuple[list[LabelMap], list[LabelMap]]:
    """Hold out every fifth map in name order.

    Returns
    -------
    training, held_out
    """
    ordered = sorted(maps, key=lambda label_map: label_map.name)
    held_out = ordered[::HELD_OUT]
    return [one for one in ordered if one not in held_out], held_out
