from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from support.packages.samples import head_like, sample_manifest

from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Output, Region

AFFINE = np.array([[0, -1.5, 0, 10], [2, 0, 0, -4], [0, 0, 1, 3], [0, 0, 0, 1]], dtype=np.float64)


@pytest.fixture
def segmentation() -> Segmentation:
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2:5, 3:5, 1:4] = 1
    volume = Volume(head_like((9, 8, 7))[None] + np.float32(1), AFFINE)
    return Segmentation(labels, volume, sample_manifest(), "a backend", {"network": 1.0})


def test_the_label_map_is_saved_on_the_scans_grid(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    segmentation.save(tmp_path / "labels.nii.gz")
    saved = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(saved.dataobj), segmentation.labels)
    np.testing.assert_array_equal(saved.affine, AFFINE)
    assert saved.get_data_dtype() == np.uint8
    assert [path.name for path in tmp_path.iterdir()] == ["labels.nii.gz"]


def test_the_preview_is_a_png(segmentation: Segmentation, tmp_path: Path) -> None:
    segmentation.save_preview(str(tmp_path / "labels.png"))
    with Image.open(tmp_path / "labels.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100


def test_statistics_are_json_and_count_by_hand(segmentation: Segmentation) -> None:
    statistics = json.loads(json.dumps(segmentation.statistics()))
    (label,) = statistics["labels"]
    assert (label["name"], label["voxel_count"], label["volume_mm3"]) == (
        "hippocampus",
        18,
        pytest.approx(54),
    )
    assert label["bounding_box"] == {"min": [2, 3, 1], "max": [4, 4, 3]}
    inside = segmentation.volume.voxels[0][segmentation.labels == 1]
    assert label["intensity_mean"] == pytest.approx([inside.mean()])


def test_names_leave_out_the_background() -> None:
    labels = (Label(0, "background"), Label(1, "rest of whole"), Label(4, "core"))
    regions = (Region("whole", (1, 2), 1), Region("core", (2,), 4))
    volume = Volume(np.ones((1, 2, 2, 2), np.float32), np.eye(4))
    for output, names in (
        (Output(labels[:1]), {}),
        (Output(labels), {1: "rest of whole", 4: "core"}),
        (Output(labels, regions), {1: "rest of whole", 4: "core"}),
    ):
        manifest = sample_manifest(output=output)
        found = Segmentation(np.zeros((2, 2, 2), np.uint8), volume, manifest, "", {})
        assert found.label_names == names
