from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from segmaformer.runtime.results.statistics import label_statistics

NAMES = {1: "one", 2: "two", 5: "five"}


def grid(spacing: tuple[float, float, float], *angles: float) -> np.ndarray:
    """Return the affine of a turned grid with an origin off the axes."""
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) @ np.diag(spacing)
    affine[:3, 3] = (-12.5, 40, 7)
    return affine


def voxels_like(labels: np.ndarray, channels: int = 1, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(channels, *labels.shape))
    return (100 * noise).astype(np.float32)


def one_label(labels: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
    entry: dict[str, Any]
    (entry,) = label_statistics(labels, voxels_like(labels), affine, {1: "one"})["labels"]
    return entry


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    angle=st.floats(-1, 1),
    channels=st.integers(1, 3),
    order=st.sampled_from("CF"),
)
def test_agrees_with_a_mask_for_each_label(
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    angle: float,
    channels: int,
    order: str,
) -> None:
    random = np.random.default_rng(seed)
    labels = np.asarray(random.choice([0, 0, 1, 2, 5], shape).astype(np.uint8), order=order)
    voxels, affine = voxels_like(labels, channels, seed), grid(spacing, angle, -angle / 2, 0.2)
    entries = label_statistics(labels, voxels, affine, NAMES)["labels"]
    assert [entry["value"] for entry in entries] == [1, 2, 5]
    for entry in entries:
        index = np.argwhere(labels == entry["value"])
        assert entry["voxel_count"] == len(index)
        assert entry["volume_mm3"] == pytest.approx(len(index) * np.prod(spacing))
        if len(index) == 0:
            continue
        centres_mm = index @ affine[:3, :3].T + affine[:3, 3]
        values = voxels[:, labels == entry["value"]].astype(np.float64)
        assert entry["bounding_box"]["min"] == index.min(0).tolist()
        assert entry["bounding_box"]["max"] == index.max(0).tolist()
        np.testing.assert_allclose(entry["centroid_mm"], centres_mm.mean(0), atol=1e-9)
        np.testing.assert_allclose(entry["intensity_mean"], values.mean(1), atol=1e-9)
        np.testing.assert_allclose(entry["intensity_std"], values.std(1), atol=1e-9)
        assert (entry["bounding_box_mm"]["min"] <= centres_mm.min(0)).all()
        assert (entry["bounding_box_mm"]["max"] >= centres_mm.max(0)).all()


def test_names_and_order_are_those_of_the_package() -> None:
    labels = np.zeros((2, 2, 2), np.uint8)
    entries = label_statistics(labels, voxels_like(labels), np.eye(4), {5: "five", 1: "one"})
    assert [(entry["value"], entry["name"]) for entry in entries["labels"]] == [
        (1, "one"),
        (5, "five"),
    ]


def test_an_absent_label_is_listed_with_nothing_invented() -> None:
    assert one_label(np.zeros((3, 3, 3), np.uint8), np.eye(4)) == {
        "name": "one",
        "value": 1,
        "voxel_count": 0,
        "volume_mm3": 0.0,
        "bounding_box": None,
        "bounding_box_mm": None,
        "centroid_mm": None,
        "touches_border": False,
        "intensity_mean": None,
        "intensity_std": None,
    }


@pytest.mark.parametrize("angles", [(), (0.3, -0.7, 1.1)])
def test_volume_is_exact_on_oblique_grids(angles: tuple[float, ...]) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:4, 2:4, 3] = 1
    assert one_label(labels, grid((0.5, 2, 4), *angles))["volume_mm3"] == pytest.approx(6 * 4.0)


def test_volume_of_a_sheared_grid_is_that_of_its_cells() -> None:
    tilted = np.diag([1.0, 1.0, 2.0, 1.0])
    tilted[1, 2] = 1.5  # a gantry tilt: the edges are longer, the cells are not larger
    assert one_label(np.ones((2, 2, 2), np.uint8), tilted)["volume_mm3"] == pytest.approx(16)


@pytest.mark.parametrize(
    ("direction", "lower", "upper"),
    [
        (np.diag([2.0, 3, 4, 1]), [1, 4.5, 10], [5, 7.5, 14]),
        (np.diag([-2.0, -3, 4, 1]), [-5, -7.5, 10], [-1, -4.5, 14]),
        (np.diag([3.0, 2, 4, 1])[:, [1, 0, 2, 3]], [4.5, 1, 10], [7.5, 5, 14]),
    ],
    ids=["RAS", "LPS", "ARS"],
)
def test_world_box_encloses_whole_voxels(
    direction: np.ndarray, lower: list[float], upper: list[float]
) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1:3, 2, 3] = 1
    box = one_label(labels, direction)["bounding_box_mm"]
    assert box == {"min": pytest.approx(lower), "max": pytest.approx(upper)}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index", [0, 2, 4])
def test_touches_border_tells_of_each_face(axis: int, index: int) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    place = [2, 2, 2]
    place[axis] = index
    labels[tuple(place)] = 1
    assert one_label(labels, np.eye(4))["touches_border"] is (index != 2)


def test_deviation_survives_a_large_mean() -> None:
    labels = np.ones((20, 20, 20), np.uint8)
    voxels = (1_704_000 + voxels_like(labels) / 100).astype(np.float32)
    (entry,) = label_statistics(labels, voxels, np.eye(4), {1: "one"})["labels"]
    exact = voxels.astype(np.float64)
    assert entry["intensity_mean"][0] == pytest.approx(exact.mean(), rel=1e-12)
    assert entry["intensity_std"][0] == pytest.approx(exact.std(), rel=1e-9)


def test_result_is_json() -> None:
    labels = np.array([0, 1, 2, 300], np.uint16).reshape(4, 1, 1)
    names = {1: "one", 2: "two", 3: "absent", 300: "far"}
    result = label_statistics(labels, voxels_like(labels, 2), np.eye(4), names)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_memory_is_that_of_a_plane() -> None:
    labels = np.ones((160, 160, 160), np.uint8)
    voxels = voxels_like(labels)
    tracemalloc.start()
    label_statistics(labels, voxels, np.eye(4), {1: "one"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes


@pytest.mark.parametrize(
    ("labels", "voxels", "affine", "error", "message"),
    [
        (np.zeros((2, 2, 2)), np.zeros((1, 2, 2, 2)), np.eye(4), TypeError, "float64"),
        (np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2)), np.eye(4), ValueError, r"\(2, 2\)"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2)), np.eye(4), ValueError, "do not fit"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros((1, 2, 2, 2)), np.eye(3), ValueError, "affine"),
        (np.full((2, 2, 2), 9, np.uint8), np.zeros((1, 2, 2, 2)), np.eye(4), ValueError, "holds 9"),
    ],
)
def test_refuses_what_does_not_fit(
    labels: np.ndarray, voxels: np.ndarray, affine: np.ndarray, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        label_statistics(labels, voxels, affine, {1: "one"})


def test_a_real_hippocampus(data_dir: Path) -> None:
    folder = data_dir / "msd_hippocampus"
    scan = nib.load(folder / "imagesTr" / "hippocampus_001.nii.gz")
    labels = np.asarray(nib.load(folder / "labelsTr" / "hippocampus_001.nii.gz").dataobj)
    voxels = np.asarray(scan.dataobj, np.float32)[None]
    names = {1: "anterior", 2: "posterior"}
    result = label_statistics(labels.astype(np.uint8), voxels, scan.affine, names)
    anterior, posterior = result["labels"]
    assert 1000 < anterior["volume_mm3"] == np.count_nonzero(labels == 1) < 3000
    assert anterior["centroid_mm"][1] > posterior["centroid_mm"][1]
    assert not anterior["touches_border"]
