"""Spacing of a scan against that of nnU-Net's own readers, see tests/data/README.md."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scans import spacing_cases as cases

from segmaformer.runtime.errors import GeometryError
from segmaformer.runtime.pipeline.preprocessing import check_grid, network_grid, preprocess
from segmaformer.runtime.scans.formats import read_header, read_scan, write_label_map
from segmaformer.runtime.scans.scan_file import outline
from segmaformer.runtime.scans.spacing import (
    known_spacings,
    training_affine,
    training_spacing,
    voxel_volumes,
)
from segmaformer.runtime.scans.volume import StatedSpacing, Volume, axis_codes, orient_to
from segmaformer.runtime.spec import Normalization, Preprocessing, Reader, Tiling

RULES: dict[str, tuple[Reader, str | None]] = {
    "NibabelIO": ("nibabel", None),
    "NibabelIOWithReorient": ("nibabel_reoriented", "RAS"),
    "SimpleITKIO": ("simpleitk", None),
    "SimpleITKIOWithReorient": ("simpleitk", "RAS"),
}
ALL_RULES: tuple[Reader | None, ...] = (
    None,
    "nibabel",
    "nibabel_reoriented",
    "simpleitk",
    "monai",
)
RECORDED = [
    (name, reader)
    for name, found in cases.recorded_spacings().items()
    for reader, spacing in found.items()
    if spacing is not None
]


def spec(reader: Reader | None, orientation: str | None = None) -> Preprocessing:
    return Preprocessing(("a",), (Normalization("none"),), orientation=orientation, reader=reader)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return cases.write_cases(tmp_path_factory.mktemp("headers"))


@pytest.mark.parametrize(("name", "reader"), RECORDED)
def test_spacing_is_that_of_nnunets_reader(files: dict[str, Path], name: str, reader: str) -> None:
    """Compare to the last bit, which may decide half a voxel on the network's grid."""
    rule, orientation = RULES[reader]
    grid = network_grid(outline(read_header(files[name]), 1), spec(rule, orientation), whole=True)
    assert [*grid.scan_spacing_mm] == cases.recorded_spacings()[name][reader]


@pytest.mark.parametrize(
    ("name", "rule", "codes"),
    [
        ("no transform", "simpleitk", "LPS"),
        ("no transform", "nibabel_reoriented", "LAS"),
        ("sform, mm", "simpleitk", "RAS"),
        ("qfac -1", "simpleitk", "RAI"),
        ("straight.nrrd", "simpleitk", "LPS"),
    ],
)
def test_axes_run_as_nnunets_reader_saw_them(
    files: dict[str, Path], name: str, rule: Reader, codes: str
) -> None:
    volume = outline(read_header(files[name]), 1)
    assert axis_codes(training_affine(volume, rule)) == codes
    found = network_grid(volume, spec(rule, "RAS"), whole=True).reorientation
    turn = orient_to(training_affine(volume, rule), "RAS")
    assert (found.axes, found.reverse) == (turn.axes[::-1], turn.reverse[::-1])


def test_monai_takes_the_columns_of_the_affine_in_any_unit(files: dict[str, Path]) -> None:
    volume = outline(read_header(files["stale sform, um"]), 1)
    assert training_spacing(volume.affine, volume.stated_spacing, "monai") == (1, 1, 1)
    assert volume.spacing_mm == (0.001, 0.001, 0.001)


def test_a_package_that_names_no_reader_takes_the_affine_in_millimetres(
    files: dict[str, Path],
) -> None:
    volume = outline(read_header(files["stale sform, m"]), 1)
    assert network_grid(volume, spec(None), whole=True).scan_spacing_mm == (1000, 1000, 1000)


def test_a_scan_in_memory_has_its_affine_alone() -> None:
    volume = Volume(np.ones((1, 2, 3, 4), np.float32), np.diag([1.5, 2.5, 3.5, 1.0]))
    for reader in ALL_RULES:
        assert network_grid(volume, spec(reader), whole=True).scan_spacing_mm == (3.5, 2.5, 1.5)


def test_spacings_that_differ_are_all_named(files: dict[str, Path]) -> None:
    stale = outline(read_header(files["stale sform, mm"]), 1)
    assert known_spacings(stale, "simpleitk") == {
        "reader": (1, 2, 3),
        "affine": (1, 1, 1),
        "header": (1, 2, 3),
    }
    assert voxel_volumes(stale, "simpleitk") == {"reader": 6, "affine": 1, "header": 6}
    assert voxel_volumes(stale, None) == {"reader": 1, "affine": 1, "header": 6}
    alike = outline(read_header(files["sform, um"]), 1)
    assert voxel_volumes(alike, "simpleitk") == pytest.approx({"reader": 6e-9})
    assert voxel_volumes(alike, "nibabel") == pytest.approx(
        {"reader": 6, "affine": 6e-9, "header": 6e-9}
    )


def test_volume_of_a_sheared_voxel(files: dict[str, Path]) -> None:
    volume = outline(read_header(files["sheared"]), 1)
    (only,) = voxel_volumes(dataclasses.replace(volume, stated_spacing=None), None).values()
    assert only == pytest.approx(6, rel=1e-5)


@settings(max_examples=60)
@given(
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.floats(0.2, 5)] * 3),
    st.tuples(*[st.floats(0.2, 5)] * 3),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from(ALL_RULES),
)
def test_labels_lie_as_the_affine_says_whatever_the_reader(
    tmp_path_factory: pytest.TempPathFactory,
    axes: list[int],
    flips: tuple[bool, ...],
    pixdim: tuple[float, float, float],
    edges: tuple[float, float, float],
    units: int,
    reader: Reader | None,
) -> None:
    """And the network sees every voxel once, at its own place."""
    affine = np.zeros((3, 4))
    for column, row in enumerate(axes):
        affine[row, column] = -edges[column] if flips[column] else edges[column]
    sform = tuple(tuple(map(float, row)) for row in affine)
    folder = tmp_path_factory.mktemp("scan")
    case = cases.NiftiCase(pixdim=pixdim, sform=sform, sform_code=1, units=units)
    case.write(folder / "scan.nii")
    scan = read_scan([folder / "scan.nii"])
    prepared = preprocess(scan, spec(reader, "RAS"))
    assert sorted(prepared.image.ravel()) == sorted(scan.voxels.ravel())
    write_label_map(folder / "labels.nii", scan.voxels[0].astype(np.uint16), like=scan)
    written, given_scan = nibabel.load(folder / "labels.nii"), nibabel.load(folder / "scan.nii")
    assert np.array_equal(written.affine, given_scan.affine)
    assert np.array_equal(written.header["pixdim"], given_scan.header["pixdim"])
    assert np.array_equal(written.get_fdata(), given_scan.get_fdata())


TILING = Tiling((40, 56, 40))


def grid_of(shape: tuple[int, int, int], step: float, target: float = 1.0) -> None:
    voxels = np.broadcast_to(np.float32(0), (1, *shape))
    volume = Volume(voxels, np.eye(4), stated_spacing=StatedSpacing((step,) * 3))
    target_spec = dataclasses.replace(spec("nibabel"), spacing=(target,) * 3)
    check_grid(network_grid(volume, target_spec, whole=True), TILING)


@pytest.mark.parametrize(
    ("shape", "step"),
    [
        ((35, 51, 35), 1.0),
        ((35, 51, 35), 20.0),  # tens of thousands of tiles: slow, and yet possible
        ((6, 6, 6), 1.0),  # small, but not shrunk
        ((128, 128, 1), 1.0),
        ((40, 40, 40), 0.25),
        ((400, 400, 40), 0.1),
    ],
)
def test_grids_that_can_be_meant(shape: tuple[int, int, int], step: float) -> None:
    grid_of(shape, step)


@pytest.mark.parametrize(
    ("shape", "step", "complaint"),
    [
        ((35, 51, 35), 0.025, "35 x 51 x 35 voxels of 0.025 x 0.025 x 0.025 mm become 1 x 1 x 1"),
        ((35, 51, 35), 0.1, "become 4 x 5 x 4 on .*, too few to segment; .* micrometre"),
        ((400, 400, 40), 0.02, "become 1 x 8 x 8"),
        ((35, 51, 35), 40.0, "takes 342792 tiles; expected at most 86400, a day's work"),
        ((35, 51, 35), 1000.0, "tiles; expected at most 86400"),
    ],
)
def test_grids_that_a_wrong_spacing_makes(
    shape: tuple[int, int, int], step: float, complaint: str
) -> None:
    with pytest.raises(GeometryError, match=complaint):
        grid_of(shape, step)
