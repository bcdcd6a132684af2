"""Probabilities at every voxel of the whole scan, also where it was cropped away."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.small_packages import write_package

from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.predictor import Prepared
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Region

LABEL_SETS = {
    "two labels": Output((Label(0, "background"), Label(1, "organ"))),
    "background under another name": Output(
        tuple(Label(value, f"tissue {value}") for value in range(5))
    ),
    "names that are numbers of others": Output(
        (Label(0, "1"), Label(1, "0"), Label(2, "background"))
    ),
    "regions": Output(
        tuple(Label(value, f"label {value}") for value in range(3)),
        (Region("whole", (1, 2), 1), Region("core", (2,), 2)),
    ),
}


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    folder = tmp_path_factory.mktemp("packages")
    preprocessing = Preprocessing(
        ("T1",),
        (Normalization("zscore"),),
        transpose_forward=(2, 0, 1),
        spacing=(1.1, 1.0, 1.3),
    )
    return {
        name: Predictor(
            Package.open(write_package(folder / f"{index}.sgmf", preprocessing, output)),
            "onnxruntime",
            options=BackendOptions(threads=1),
        )
        for index, (name, output) in enumerate(LABEL_SETS.items())
    }


def stored(voxels: np.ndarray, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    affine[list(axes), range(3)] = signs
    return Volume(voxels[None], affine)


def maps_of(predictor: Predictor, prepared: Prepared) -> tuple[list[int], np.ndarray]:
    """Return value and map of everything that the package predicts."""
    output = predictor.package.manifest.output
    named = output.regions or output.labels
    names = [each.name for each in named]
    return [each.value for each in named], np.stack([*predictor.probabilities(prepared, names)])


@settings(max_examples=40)
@given(
    name=st.sampled_from([*LABEL_SETS]),
    kept=st.tuples(*[st.integers(1, 14)] * 3),
    before=st.tuples(*[st.integers(0, 6)] * 3),
    after=st.tuples(*[st.integers(0, 6)] * 3),
    axes=st.sampled_from([*itertools.permutations(range(3))]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    seed=st.integers(0, 99),
)
def test_what_was_cropped_away_is_background(
    predictors: dict[str, Predictor],
    name: str,
    kept: tuple[int, ...],
    before: tuple[int, ...],
    after: tuple[int, ...],
    axes: tuple[int, ...],
    signs: tuple[int, ...],
    seed: int,
) -> None:
    content = np.random.default_rng(seed).uniform(1, 2, kept).astype(np.float32)
    borders = [*zip(before, after, strict=True)]
    predictor = predictors[name]
    prepared = predictor.prepare(stored(np.pad(content, borders), axes, signs))
    values, maps = maps_of(predictor, prepared)
    outside = np.pad(np.zeros(kept, bool), borders, constant_values=True)
    exclusive = not predictor.package.manifest.output.regions
    for value, found in zip(values, maps, strict=True):
        assert found.shape == prepared.volume.shape
        assert (found[outside] == (exclusive and value == 0)).all()
        assert ((found > 0) & (found < 1))[~outside].all()
    if exclusive:
        # Each is rounded to float32 once, after a division.
        np.testing.assert_allclose(maps.sum(0), 1, atol=1e-6)
        labels = predictor.segment(prepared).labels
        certain = np.partition(maps, -2, axis=0)[-1] - np.partition(maps, -2, axis=0)[-2] > 1e-5
        np.testing.assert_array_equal(maps.argmax(0)[certain], labels[certain])


def test_a_scan_with_an_empty_border(
    hippocampus_package_path: Path, cases_dir: Path, tmp_path: Path
) -> None:
    path = cases_dir / "zero_border_probability.nii.gz"
    predictor = Predictor(Package.open(hippocampus_package_path), "onnxruntime")
    prepared = predictor.prepare(path)
    values, maps = maps_of(predictor, prepared)
    outside = np.ones(prepared.volume.shape, bool)
    filled = np.nonzero(np.asanyarray(nibabel.load(path).dataobj))
    outside[tuple(slice(axis.min(), axis.max() + 1) for axis in filled)] = False
    assert outside.sum() == 225_525
    for value, found in zip(values, maps, strict=True):
        assert (found[outside] == (value == 0)).all()
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-6)
