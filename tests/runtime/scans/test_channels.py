from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.channels import ScanCase, group_channels
from segmaformer.runtime.scans.formats import SUFFIXES


def grouped(names: list[str], channels: int) -> dict[str, list[str] | str]:
    """Return each case's files, or the reason of its refusal."""
    cases = group_channels(map(Path, names), channels=channels)
    return {case.name: case.refusal or [str(path) for path in case.files] for case in cases}


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".NII.GZ"])
def test_numbered_files_are_the_channels_of_a_case(suffix: str) -> None:
    names = [f"b_0001{suffix}", f"a_0000{suffix}", f"b_0000{suffix}", f"a_0001{suffix}"]
    assert grouped(names, 2) == {
        "a": [f"a_0000{suffix}", f"a_0001{suffix}"],
        "b": [f"b_0000{suffix}", f"b_0001{suffix}"],
    }


def test_channels_may_be_of_different_formats() -> None:
    assert grouped(["a_0001.nrrd", "a_0000.nii.gz"], 2) == {"a": ["a_0000.nii.gz", "a_0001.nrrd"]}


@pytest.mark.parametrize(
    "name", ["a.nii.gz", "a_001.nrrd", "a_00001.mha", "a0000.nii", "_0000.nii", "a_000x.mhd", "a_0"]
)
def test_other_names_are_cases_of_their_own(name: str) -> None:
    for channels in (1, 3):  # one file may hold three channels
        assert [*grouped([name], channels).values()] == [[name]]


def test_a_case_of_one_channel_may_be_numbered() -> None:
    assert grouped(["a_0000.nii.gz", "b.nii.gz"], 1) == {"a": ["a_0000.nii.gz"], "b": ["b.nii.gz"]}


@pytest.mark.parametrize(
    ("names", "channels", "complaint"),
    [
        (["x_0000.nii"], 2, "x has the channels 0000; the model expects 0000 to 0001"),
        (["x_0001.nii"], 2, "x has the channels 0001; the model expects 0000 to 0001"),
        (["x_0001.nii"], 1, "x has the channels 0001; the model expects 0000. Add or remove"),
        (["x_0000.nii", "x_0002.nii"], 2, "x has the channels 0000, 0002"),
        (["x_0000.nii", "x_0001.nii", "x_0002.nii"], 2, "x has the channels 0000, 0001, 0002"),
        (["x_0000.nii", "x_0001.nii"], 1, "the model expects 0000. "),
        (["x.nii.gz", "x.nrrd"], 1, "x.nii.gz, x.nrrd have the case name x in common"),
        (["x.nii.gz", "x.nii"], 1, "have the case name x in common"),
        (["x.nii.gz", "x_0000.nii.gz"], 1, "have the case name x in common"),
        (["x.nii.gz", "x_0001.nii.gz"], 2, "have the case name x in common"),
        (["x_0000.nii.gz", "x_0000.mha", "x_0001.mha"], 2, "have the case name x in common"),
    ],
)
def test_a_wrong_case_is_refused_and_the_others_are_not(
    names: list[str], channels: int, complaint: str
) -> None:
    right = [f"{name}_{number:04}.nii.gz" for name in "ay" for number in range(channels)]
    cases = grouped([*names, *right], channels)
    assert [*cases] == ["a", "x", "y"]
    assert complaint in cases["x"]
    assert cases["a"] == right[:channels]
    assert cases["y"] == right[channels:]


def test_a_refused_case_has_all_of_its_files() -> None:
    (case,) = group_channels([Path("x_0002.nii"), Path("x_0000.nii")], channels=2)
    assert case.files == (Path("x_0000.nii"), Path("x_0002.nii"))


def test_cases_of_the_same_name_in_different_folders_are_different() -> None:
    cases = group_channels([Path("b/x.nii"), Path("a/x.nii"), Path("a/x.nii")], channels=1)
    assert cases == [ScanCase("x", (Path("a/x.nii"),)), ScanCase("x", (Path("b/x.nii"),))]


def test_a_folder_gives_its_scans_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "folder").mkdir()
    for name in ("b.mhd", "b.zraw", "a_0000.nii.gz", "c.nhdr", "c.raw.gz", "below/d.nii"):
        (tmp_path / name).touch()
    for name in (".hidden.nii.gz", "notes.txt", "a.json", "._b.mhd"):
        (tmp_path / name).touch()
    cases = group_channels(tmp_path, channels=1)
    assert [(case.name, case.files[0].name) for case in cases] == [
        ("a", "a_0000.nii.gz"),
        ("b", "b.mhd"),
        ("c", "c.nhdr"),
    ]
    assert all(case.refusal is None for case in cases)


def test_a_folder_without_files_gives_its_dicom_folders(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from support.scans.dicom_files import Series

    voxels = np.ones((4, 4, 2), "u2")
    for name in ("a.1", "b_0000", "b_0001"):
        Series(voxels).write(tmp_path / name / "nested")
    (tmp_path / "empty").mkdir()
    cases = group_channels(tmp_path, channels=2)
    assert [(case.name, len(case.files)) for case in cases] == [("a.1", 1), ("b", 2)]
    (case,) = group_channels(tmp_path / "a.1" / "nested", channels=1)
    assert case.files == (tmp_path / "a.1" / "nested",)
    (tmp_path / "scan.nii").touch()
    assert [case.name for case in group_channels(tmp_path, channels=1)] == ["scan"]


def test_no_scans_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=rf"no scans are in {tmp_path}; expected files that end"):
        group_channels(tmp_path, channels=1)
    with pytest.raises(InputError, match="no scans are given"):
        group_channels([], channels=1)


def test_numbered_files_may_hold_several_channels_together(tmp_path: Path) -> None:
    for name in ("a_0000", "b_0000", "c_0000", "d_0001"):
        voxels = np.ones((3, 4, 5, 2), np.float32)
        SimpleITK.WriteImage(
            SimpleITK.GetImageFromArray(voxels, isVector=True), str(tmp_path / f"{name}.nrrd")
        )
    for name in ("a_0001", "b_0002", "c_0003", "d_0000"):
        SimpleITK.WriteImage(
            SimpleITK.GetImageFromArray(voxels[..., 0]), str(tmp_path / f"{name}.nrrd")
        )
    cases = {case.name: case.refusal for case in group_channels(tmp_path, channels=3)}
    assert [cases["a"], cases["b"], cases["d"]] == [None] * 3
    assert "c has the channels 0000, 0003" in str(cases["c"])
    assert None not in {case.refusal for case in group_channels(tmp_path, channels=4)}
