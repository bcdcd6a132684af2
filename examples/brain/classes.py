"""The classes of the brain model, and the structures of the label maps that belong to each."""

from __future__ import annotations

from dataclasses import dataclass

BACKGROUND = 0
FLUID = 1
CORTEX = 2
WHITE_MATTER = 3
DEEP_GREY = 4
VENTRICLES = 5
CEREBELLAR_CORTEX = 6
CEREBELLAR_WHITE_MATTER = 7
BRAIN_STEM = 8
HIPPOCAMPUS = 9

CLASSES = {
    "background": BACKGROUND,
    "cerebrospinal fluid": FLUID,
    "cortex": CORTEX,
    "white matter": WHITE_MATTER,
    "deep grey nuclei": DEEP_GREY,
    "ventricles": VENTRICLES,
    "cerebellar cortex": CEREBELLAR_CORTEX,
    "cerebellar white matter": CEREBELLAR_WHITE_MATTER,
    "brain stem": BRAIN_STEM,
    "hippocampus and amygdala": HIPPOCAMPUS,
}


@dataclass(frozen=True)
class Structure:
    """A part of the head whose intensities are drawn together, left and right alike.

    Attributes
    ----------
    name
        FreeSurfer's name without the side, or a description.
    numbers
        Values in the label maps, FreeSurfer's where the structure is in the brain.
    label
        Value in :data:`CLASSES`.
    t1
        Place in the order of a T1-weighted scan: 0 fluid, 1 cortex, 2 white matter. None outside
        the brain, where the maps are too coarse for an order.
    """

    name: str
    numbers: tuple[int, ...]
    label: int
    t1: float | None = None


STRUCTURES = (
    Structure("air", (0,), BACKGROUND),
    Structure("cerebrospinal fluid", (24,), FLUID, 0),
    Structure("cerebral cortex", (3, 42), CORTEX, 1),
    Structure("cerebral white matter", (2, 41), WHITE_MATTER, 2),
    Structure("white matter lesion", (25, 57), WHITE_MATTER, 1.5),
    Structure("vessel in white matter", (30, 62), WHITE_MATTER, 1),
    Structure("optic chiasm", (85,), WHITE_MATTER, 1.7),
    Structure("thalamus", (10, 49), DEEP_GREY, 1.5),
    Structure("caudate", (11, 50), DEEP_GREY, 1.1),
    Structure("putamen", (12, 51), DEEP_GREY, 1.3),
    Structure("pallidum", (13, 52), DEEP_GREY, 1.8),
    Structure("accumbens", (26, 58), DEEP_GREY, 1.1),
    Structure("ventral diencephalon", (28, 60), DEEP_GREY, 1.7),
    Structure("lateral ventricle", (4, 43), VENTRICLES, 0),
    Structure("inferior lateral ventricle", (5, 44), VENTRICLES, 0.2),
    Structure("third ventricle", (14,), VENTRICLES, 0),
    Structure("fourth ventricle", (15,), VENTRICLES, 0),
    Structure("fifth ventricle", (72,), VENTRICLES, 0),
    Structure("choroid plexus, lateral ventricle", (136, 163), VENTRICLES, 0.5),
    Structure("choroid plexus, inferior horn", (137, 164), VENTRICLES, 0.5),
    Structure("cerebellar cortex", (8, 47), CEREBELLAR_CORTEX, 1),
    Structure("cerebellar white matter", (7, 46), CEREBELLAR_WHITE_MATTER, 1.9),
    Structure("brain stem", (16,), BRAIN_STEM, 1.8),
    Structure("hippocampus", (17, 53), HIPPOCAMPUS, 1),
    Structure("amygdala", (18, 54), HIPPOCAMPUS, 1),
    *(
        Structure(f"outside the brain, {number}", (number,), BACKGROUND)
        for number in (502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)
    ),
)
"""Every structure that the label maps hold; its index is the value that this example works with."""

AIR = 0
CLASS_OF_STRUCTURE = tuple(structure.label for structure in STRUCTURES)
