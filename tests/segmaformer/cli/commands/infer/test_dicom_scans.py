"""DICOM folders through ``sgmf check`` and ``sgmf infer``."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless
from support.packages.samples import head_like
from support.scans.dicom_files import OBLIQUE, Series, save
from support.scans.scan_files import peak_memory

Sgmf = Callable[..., Any]

VOXELS = (head_like((33, 28, 24)) * 100 + 500).clip(0, 4000).astype("u2")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return Series(VOXELS, orientation=OBLIQUE).write(tmp_path / "case.1")


def test_a_folder_is_segmented_on_its_own_grid(
    sgmf: Sgmf, tiny_package_path: Path, series: Path
) -> None:
    before = names(series)
    output = series.with_name("labels.nii.gz")
    run = sgmf("infer", series, "-m", tiny_package_path, "-o", output)
    assert (run.code, run.stdout) == (0, f"{output}\n")
    labels = nibabel.load(output)
    assert labels.shape == VOXELS.shape
    affine = Series(VOXELS, orientation=OBLIQUE).affine
    np.testing.assert_allclose(labels.affine, affine, atol=1e-4)
    assert names(series) == before


def test_the_labels_are_those_of_the_same_scan_as_nifti(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, tmp_path: Path
) -> None:
    voxels = VOXELS.astype("f4") - 1024
    nifti = nibabel.Nifti1Image(voxels, Series(VOXELS, orientation=OBLIQUE).affine)
    nibabel.save(nifti, tmp_path / "scan.nii")
    for scan in (series, tmp_path / "scan.nii"):
        output = tmp_path / f"{scan.name}.nii.gz"
        command = ("infer", scan, "-m", tiny_package_path, "-o", output)
        assert sgmf(*command, "--backend", "onnxruntime").code == 0
    labels = [
        np.asarray(nibabel.load(tmp_path / name).dataobj)
        for name in ("case.1.nii.gz", "scan.nii.nii.gz")
    ]
    np.testing.assert_array_equal(*labels)


def test_every_folder_is_a_case(sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path) -> None:
    for name in ("a.1", "a.2"):
        Series(VOXELS).write(tmp_path / "cases" / name / "nested")
    run = sgmf("infer", tmp_path / "cases", "-m", tiny_package_path, "-o", tmp_path / "out")
    assert run.code == 0
    assert names(tmp_path / "out") == [
        *("a.1_seg.dcm", "a.1_seg.run.json", "a.2_seg.dcm", "a.2_seg.run.json"),
        "summary.json",
    ]


def test_channels_are_folders(sgmf: Sgmf, two_channel_package_path: Path, tmp_path: Path) -> None:
    folders = [
        Series(VOXELS + np.uint16(channel)).write(tmp_path / "cases" / f"case_{channel:04}")
        for channel in range(2)
    ]
    run = sgmf("infer", *folders, "-m", two_channel_package_path, "-o", tmp_path / "labels.nii.gz")
    assert run.code == 0
    out = tmp_path / "out"
    assert sgmf("infer", tmp_path / "cases", "-m", two_channel_package_path, "-o", out).code == 0
    assert (out / "case_0000_seg.dcm").exists()


def test_an_ambiguous_folder_needs_a_choice(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    for number in (4, 5):

        def change(dataset: Dataset, _index: int, number: int = number) -> None:
            dataset.SeriesNumber = number

        Series(VOXELS, change=change).write(tmp_path / "study" / str(number))
    run = sgmf("infer", tmp_path / "study", "-m", tiny_package_path)
    assert run.code == 3
    assert "--where SeriesNumber=4" in run.stderr
    assert names(tmp_path) == ["study"]
    choice = ("--where", "SeriesNumber=5")
    run = sgmf("infer", tmp_path / "study", "-m", tiny_package_path, *choice)
    assert run.code == 0
    record = json.loads((tmp_path / "study_seg.run.json").read_bytes())
    assert record["where"] == ["SeriesNumber=5"]
    assert record["scan"][0]["files"] == 2 * VOXELS.shape[2]


def test_resume_goes_by_the_files_content_and_the_choice(
    sgmf: Sgmf, tiny_package_path: Path, series: Path
) -> None:
    command = ("infer", series, "-m", tiny_package_path, "--resume")
    assert sgmf(*command).stdout
    (series / "IM0003").rename(series / "renamed")
    assert not sgmf(*command).stdout
    assert sgmf(*command, "--where", "SeriesNumber=3").stdout
    save(Series(VOXELS).slice(3), series / "renamed")
    assert sgmf(*command).code == 3


def test_check_reports_what_is_wrong_with_a_series(sgmf: Sgmf, series: Path) -> None:
    assert sgmf("check", series).code == 0
    (series / "IM0005").unlink()
    run = sgmf("check", series)
    assert run.code == 3
    assert "refuse: " in run.stdout
    assert "gaps between 23 images are not equal: from 2.5 to 5 mm" in run.stdout


def test_a_single_image_asks_for_its_folder(
    sgmf: Sgmf, tiny_package_path: Path, series: Path
) -> None:
    run = sgmf("infer", series / "IM0005", "-m", tiny_package_path)
    assert run.code == 3
    assert "a single image" in run.stderr


def test_a_tilted_series_is_straightened_for_the_network_alone(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    series = Series(VOXELS, step_mm=(0, 0.7, 2.4))
    folder = series.write(tmp_path / "tilted")
    labels = tmp_path / "labels.nii.gz"
    run = sgmf("infer", folder, "-m", tiny_package_path, "-o", labels)
    assert run.code == 0
    assert "the images are tilted by 16.3 degrees" in run.stderr
    image = nibabel.load(labels)
    assert image.shape == VOXELS.shape
    np.testing.assert_allclose(image.affine, series.affine, atol=1e-4)
    command = ("infer", folder, "-m", tiny_package_path, "-o", tmp_path / "kept.nii.gz")
    assert sgmf(*command, "--keep-tilt", "--probabilities", "1").code == 0
    record = json.loads((tmp_path / "kept.run.json").read_bytes())
    assert record["keep_tilt"] is True


def test_probabilities_lie_on_the_tilted_images(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    folder = Series(VOXELS, step_mm=(0, 0.7, 2.4)).write(tmp_path / "tilted")
    labels = tmp_path / "labels.nii.gz"
    command = ("infer", folder, "-m", tiny_package_path, "-o", labels, "--probabilities", "1")
    assert sgmf(*command).code == 0
    (path,) = tmp_path.glob("labels_prob-*.nii.gz")
    assert nibabel.load(path).shape == VOXELS.shape


def test_verify_takes_folders_and_the_same_choices(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    data, labels = tmp_path / "data", tmp_path / "labels"
    labels.mkdir()
    for name in ("a.1", "a.2"):
        folder = Series(VOXELS, step_mm=(0, 0.7, 2.4)).write(data / name / "nested")
        Series(VOXELS + np.uint16(9), number=4).write(data / name / "other")
        command = ("infer", folder, "-m", tiny_package_path, "-o", labels / f"{name}.nii.gz")
        assert sgmf(*command, "--backend", "onnxruntime").code == 0
    command = ("verify", tiny_package_path, "--data", data, "--backend", "onnxruntime", "--json")
    assert "2 usable series" in sgmf(*command).stderr
    run = sgmf(*command, "--labels", labels, "--where", "SeriesNumber=3")
    document = json.loads(run.stdout)
    assert (run.code, document["cases"], document["where"]) == (
        0,
        ["a.1", "a.2"],
        ["SeriesNumber=3"],
    )
    means = document["runs"][0]["structures"].values()
    assert {each["dice"]["value"] for each in means if each["dice"]} == {1.0}


@pytest.mark.parametrize("option", [("--where", "SeriesNumber=3"), ("--keep-tilt",)])
def test_choices_need_scans(sgmf: Sgmf, tiny_package_path: Path, option: tuple[str, ...]) -> None:
    run = sgmf("verify", tiny_package_path, *option)
    assert run.code == 2
    assert f"{option[0]} needs scans: --data DIR" in run.stderr


def bomb(folder: Path) -> Path:
    """Let a deflated file of 130 kB unpack to 128 MiB of a header."""
    path = Series(VOXELS, syntax=DeflatedExplicitVRLittleEndian).write(folder) / "IM0002"
    content = path.read_bytes()
    data_set_at = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    private = b"\x09\0\x01\x10OB\0\0" + (1 << 30).to_bytes(4, "little")
    packed = [deflater.compress(private), deflater.compress(bytes(1 << 27)), deflater.flush()]
    path.write_bytes(content[:data_set_at] + b"".join(packed))
    return folder


def changed(**values: Any) -> Callable[[Path], Path]:
    def change(dataset: Dataset, _index: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return lambda folder: Series(VOXELS, change=change).write(folder)


def other_size(folder: Path) -> Path:
    """Give an image of 512 x 512 a codestream of another size."""
    series = Series(VOXELS, syntax=JPEGLSLossless)
    series.write(folder)
    other = Series(np.ones((90, 80, 1), "u2")).slice(0)
    other.compress(JPEGLSLossless)
    image = series.slice(2)
    save(image, folder / "IM0002", JPEGLSLossless)
    image.PixelData = other.PixelData
    image.save_as(folder / "IM0002", enforce_file_format=True)
    return folder


def index_of_files(folder: Path) -> Path:
    content = (Series(VOXELS).write(folder) / "IM0002").read_bytes()
    index = content.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0", 1)
    (folder / "DICOMDIR").write_bytes(index)
    return folder / "DICOMDIR"


def archive(folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "series.zip", "w") as file:
        file.writestr("IM0000", bytes(1000))
    return folder / "series.zip"


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a bomb": (bomb, "IM0002"),
    "another size": (other_size, "compressed as 80 rows, 90 columns"),
    "absurd rows": (changed(Rows=65535, Columns=65535), "cut off or damaged"),
    "absurd frames": (changed(NumberOfFrames=1_000_000_000), "NumberOfFrames is no number"),
    "no directions": (changed(ImageOrientationPatient=[0] * 6), "lengths 0 and 0"),
    "a path as a UID": (changed(SeriesInstanceUID="1.2/../3"), "SeriesInstanceUID is no UID"),
    "an index": (index_of_files, "DICOMDIR"),
    "an archive": (archive, "zip"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_nothing_is_written(
    name: str,
    sgmf: Sgmf,
    tiny_package_path: Path,
    tmp_path: Path,
    tree: Callable[[Path], Any],
) -> None:
    make, message = HOSTILE[name]
    scan = make(tmp_path / "scan")
    before = tree(tmp_path)
    with peak_memory() as peak:
        run = sgmf("infer", scan, "-m", tiny_package_path, "--backend", "onnxruntime")
    assert (run.code, message in run.stderr) == (3, True), run.stderr
    assert peak() < 100 << 20
    assert tree(tmp_path) == before


MARKERS = (b"MARKERNAME", b"MARKERID", b"19010203")


def test_nothing_names_the_patient(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path, tree: Callable[[Path], Any]
) -> None:
    def mark(dataset: Dataset, _index: int) -> None:
        dataset.PatientName, dataset.PatientID = "MARKERNAME^ANNA", "MARKERID"
        dataset.PatientBirthDate = "19010203"

    folder = Series(VOXELS, change=mark).write(tmp_path / "scans" / "series")
    out = tmp_path / "out"
    out.mkdir()
    common = (folder, "-m", tiny_package_path)
    results = ("--preview", "--stats", "--names", "--report", out / "report.html", "--json")
    runs = [
        sgmf("infer", *common, "-o", out / "labels.nii.gz", *results),
        sgmf("check", *common, "--json"),
        sgmf("series", folder, "--json"),
        sgmf("series", folder),
    ]
    assert [run.code for run in runs] == [0] * 4
    (folder / "IM0003").write_bytes((folder / "IM0003").read_bytes()[:-50])
    runs += [sgmf("infer", *common, "-o", out / "again.nii.gz"), sgmf("series", folder)]
    written = [content for content in tree(out).values() if content is not None]
    written += [(run.stdout + run.stderr).encode() for run in runs]
    assert not [marker for marker in MARKERS for content in written if marker in content]
