"""Scans whose header states its spacing twice, through the commands, as nnU-Net segments them.

Counts are those of nnunetv2 2.8.1 with the same weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.networks.reference_model import HIPPOCAMPUS
from support.packages.samples import copy_package, edit_manifest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import load_checkpoint
from segmaformer.runtime.package.reader import Package

Sgmf = Callable[..., Any]
ORIENTED = '"orientation": "RAS"'
READER = '"reader": "nibabel_reoriented"'
AS_STORED = '"orientation": null'


def package_of(path: Path, folder: Path, *changes: tuple[str, str]) -> Path:
    package: Path = copy_package(path, folder)
    for old, new in changes:
        edit_manifest(package, old, new)
    return package


def counts(path: Path) -> list[int]:
    return np.bincount(np.asanyarray(nibabel.load(path).dataobj).ravel()).tolist()


@pytest.fixture
def simpleitk_package(hippocampus_package_path: Path, tmp_path: Path) -> Path:
    changes = (ORIENTED, AS_STORED), (READER, '"reader": "simpleitk"')
    return package_of(hippocampus_package_path, tmp_path, *changes)


@pytest.fixture
def micrometre_package(hippocampus_package_path: Path, tmp_path: Path) -> Path:
    one, twenty_five = (json.dumps([mm] * 3, indent=6)[:-1] for mm in (1.0, 25.0))
    return package_of(
        hippocampus_package_path,
        tmp_path,
        (ORIENTED, AS_STORED),
        (READER, '"reader": "nibabel"'),
        (f'"spacing": {one}', f'"spacing": {twenty_five}'),
    )


def test_a_stale_sform_and_a_network_that_was_fed_by_simpleitk(
    sgmf: Sgmf, simpleitk_package: Path, cases_dir: Path, tmp_path: Path
) -> None:
    scan, output = cases_dir / "sform_wrong_pixdim_right.nii.gz", tmp_path / "labels.nii.gz"
    run = sgmf("infer", scan, "-m", simpleitk_package, "--stats", "-o", output)
    assert run.code == 0, run.stderr
    assert counts(output) == [485958, 5201, 8641]
    assert "states voxel edges of 0.5 x 0.5 x 0.5 mm, and its affine has 1 x 1 x 1" in run.stderr
    assert "go by 0.5 x 0.5 x 0.5 mm, the header's, as SimpleITK read" in run.stderr
    statistics = json.loads((tmp_path / "labels.json").read_text())["statistics"]
    volumes = {"reader": 0.125, "affine": 1.0, "header": 0.125}
    assert statistics["voxel_volume_mm3"] == pytest.approx(0.125)
    assert statistics["voxel_volumes_mm3"] == pytest.approx(volumes)
    for label, voxels in zip(statistics["labels"], (5201, 8641), strict=True):
        assert label["volume_mm3"] == pytest.approx(voxels * 0.125)
        assert label["volumes_mm3"]["affine"] == pytest.approx(voxels)
    np.testing.assert_array_equal(nibabel.load(output).affine, nibabel.load(scan).affine)


def test_micrometres_and_a_network_that_was_fed_by_nibabel(
    sgmf: Sgmf, micrometre_package: Path, cases_dir: Path, tmp_path: Path
) -> None:
    scan, output = cases_dir / "micron_units_nibabelio.nii.gz", tmp_path / "labels.nii.gz"
    run = sgmf("infer", scan, "-m", micrometre_package, "-o", output)
    assert run.code == 0, run.stderr
    assert counts(output) == [59484, 1361, 1630]
    assert "the header's without its unit, as NibabelIO read" in run.stderr


def test_a_unit_that_leaves_a_few_voxels_is_refused(
    sgmf: Sgmf, simpleitk_package: Path, cases_dir: Path, tmp_path: Path
) -> None:
    scan = cases_dir / "micron_units_nibabelio.nii.gz"
    for command in ("check", "infer"):
        run = sgmf(command, scan, "-m", simpleitk_package)
        assert run.code == 3
        assert "become 1 x 1 x 1 on the model's grid" in run.stdout + run.stderr
        assert "too few to segment" in run.stdout + run.stderr


def test_a_spacing_that_takes_more_than_a_day_is_refused(
    sgmf: Sgmf, hippocampus_package_path: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).normal(100, 20, (35, 51, 35)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([40, 40, 40, 1.0])), scan)
    for command in ("check", "infer"):
        run = sgmf(command, scan, "-m", hippocampus_package_path, "--json")
        assert run.code == 3
        assert "takes 342792 tiles; expected at most 86400" in run.stdout + run.stderr


@pytest.fixture(scope="module")
def reference_file() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(HIPPOCAMPUS, weights_only=False)
    return content


@pytest.mark.parametrize(
    ("reader", "rule", "orientation", "said"),
    [
        ("SimpleITKIO", "simpleitk", None, False),
        ("NibabelIO", "nibabel", None, False),
        ("NibabelIOWithReorient", "nibabel_reoriented", "RAS", False),
        (None, "simpleitk", None, True),
    ],
)
def test_a_checkpoint_tells_what_read_its_scans(
    reference_file: dict[str, Any],
    tmp_path: Path,
    reader: str | None,
    rule: str,
    orientation: str | None,
    said: bool,
) -> None:
    content = copy.copy(reference_file)
    content["init_args"] = copy.deepcopy(content["init_args"])
    plans = content["init_args"]["plans"]
    del plans["image_reader_writer"]
    if reader is not None:
        plans["image_reader_writer"] = reader
    torch.save(content, tmp_path / "model.pth")
    checkpoint = load_checkpoint(tmp_path / "model.pth")
    assert checkpoint.preprocessing.reader == rule
    assert checkpoint.preprocessing.orientation == orientation
    told = [line for line in checkpoint.assumptions if line.startswith("Reader: ")]
    assert bool(told) == said


def test_a_package_keeps_it(hippocampus_package_path: Path) -> None:
    preprocessing = Package.open(hippocampus_package_path).manifest.preprocessing
    assert preprocessing.reader == "nibabel_reoriented"
