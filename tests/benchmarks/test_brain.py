"""Expert labels as classes of the brain model."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from support.scripts import ROOT, load_script

pytest.importorskip("torch")
CLASSES = {"cerebrospinal fluid": 1, "cortex": 2, "white matter": 3, "deep grey nuclei": 4} | {
    name: value
    for value, name in enumerate(
        (
            "ventricles",
            "cerebellar cortex",
            "cerebellar white matter",
            "brain stem",
            "hippocampus and amygdala",
        ),
        start=5,
    )
}


@pytest.fixture(scope="module")
def brain() -> ModuleType:
    return load_script(ROOT / "benchmarks/accuracy/brain.py")


def test_labels_become_classes(brain: ModuleType) -> None:
    labels = np.array([0, 0, 100, 207, 44, 60, 52, 71, 41, 35, 31, 46, 75])
    inside = np.arange(len(labels)) > 0
    truth = brain.truth_of(labels, inside, CLASSES)
    assert truth.tolist() == [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 255, 255]


def test_an_unknown_label_is_refused(brain: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"\[97\] are in no table"):
        brain.truth_of(np.array([97, 35]), np.ones(2, bool), CLASSES)


def test_every_class_of_the_training_is_judged(brain: ModuleType) -> None:
    parts = [part for parts in brain.TISSUES.values() for part in parts]
    assert sorted(parts) == sorted(CLASSES)
    assert set(brain.COUNTERPARTS) == CLASSES.keys() - {"cerebrospinal fluid"}
