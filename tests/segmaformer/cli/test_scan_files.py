"""Real-world scan files through `sgmf infer` and `sgmf check`."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from support.packages.samples import head_like, write_scan

Sgmf = Callable[..., Any]

HEADS = [head_like((20, 22, 24), seed=seed) + np.float32(1) for seed in range(3)]


def two_channels(path: Path, *, vector: bool) -> Path:
    """Write one file of the first two heads."""
    voxels = np.stack(HEADS[:2])
    if path.name.endswith((".nii", ".nii.gz")):
        stored = np.moveaxis(voxels, 0, -1)
        image = nibabel.Nifti1Image(stored[..., None, :] if vector else stored, np.eye(4))
        image.header.set_intent("vector" if vector else "none")
        nibabel.save(image, path)
        return path
    axes = voxels.T if vector else voxels.transpose(0, 3, 2, 1)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(axes, isVector=vector), str(path))
    return path


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_one_file_of_all_channels_is_a_scan(
    sgmf: Sgmf, two_channel_package_path: Path, tmp_path: Path, suffix: str, vector: bool
) -> None:
    (tmp_path / "in").mkdir()
    scans = [
        two_channels(tmp_path / "in" / f"{name}{suffix}", vector=vector)
        for name in ("a", "b_2021", "c_0000")
    ]
    package = ("-m", two_channel_package_path)
    (tmp_path / "alone").mkdir()
    run = sgmf("infer", *scans[:2], *package, "-o", tmp_path / "alone", "--json")
    assert run.code == 0, run.stderr
    assert [each["scan"] for each in json.loads(run.stdout)["results"]] == [
        [str(path)] for path in scans[:2]
    ]
    run = sgmf("check", scans[2], *package)
    assert run.code == 0, run.stdout
    run = sgmf("infer", tmp_path / "in", *package, "-o", tmp_path / "out")
    assert run.code == 0, run.stderr
    assert "3 done" in run.stderr


def test_one_file_and_two_give_the_same_labels(
    sgmf: Sgmf, two_channel_package_path: Path, tmp_path: Path
) -> None:
    one = two_channels(tmp_path / "one.nii.gz", vector=False)
    two = [write_scan(tmp_path / f"{name}.nii.gz", HEADS[name]) for name in (0, 1)]
    run = sgmf("infer", one, *two, "-m", two_channel_package_path)
    assert run.code == 0, run.stderr
    maps = [nibabel.load(tmp_path / f"{name}_seg.nii.gz") for name in ("one", 0)]
    assert np.array_equal(*(np.asanyarray(each.dataobj) for each in maps))


def test_a_number_of_channels_that_does_not_fit_is_refused_with_the_counts(
    sgmf: Sgmf, two_channel_package_path: Path, tmp_path: Path
) -> None:
    one = two_channels(tmp_path / "one.nrrd", vector=True)
    single = write_scan(tmp_path / "single.nii.gz", HEADS[0])
    run = sgmf("infer", single, one, "-m", two_channel_package_path)
    assert run.code == 3
    assert f"2 were given; {one} holds 2" in run.stderr


def test_names_in_another_order_warn(
    sgmf: Sgmf, two_channel_package_path: Path, tmp_path: Path
) -> None:
    manifest = json.loads((two_channel_package_path / "manifest.json").read_text())
    first, second = manifest["preprocessing"]["channels"]
    scans = [
        write_scan(tmp_path / f"case_{name}.nii.gz", HEADS[index])
        for index, name in enumerate((second, first))
    ]
    for command in ("check", "infer"):
        run = sgmf(command, *scans, "-m", two_channel_package_path)
        assert run.code == 0
        assert "by their names the right order is" in run.stdout + run.stderr
        run = sgmf(command, *scans[::-1], "-m", two_channel_package_path)
        assert "by their names" not in run.stdout + run.stderr


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Write one scan, and things with a scan's name that are no files."""
    folder = tmp_path / "in"
    write_scan(folder / "good.nii.gz")
    (folder / "dangling.nii.gz").symlink_to("nowhere.nii.gz")
    (folder / "loop.nii.gz").symlink_to("loop.nii.gz")
    (folder / "device.nii.gz").symlink_to("/dev/zero")
    (folder / "folder.nii.gz").mkdir()
    os.mkfifo(folder / "pipe.nii.gz")
    return folder


ODD = ("dangling", "device", "folder", "loop", "pipe")


def test_what_is_no_file_is_a_refused_case_of_a_batch(
    sgmf: Sgmf, tiny_package_path: Path, odd_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for resume in ([], ["--resume"]):
        run = sgmf("infer", odd_folder, "-m", tiny_package_path, "-o", out, *resume)
        assert run.code == 3
        results = json.loads((out / "summary.json").read_text())["results"]
        codes = {
            Path(each["scan"][0]).name.partition(".")[0]: each.get("exit_code", 0)
            for each in results
        }
        assert codes == {"good": 0, **dict.fromkeys(ODD, 3)}
        assert "5 refused" in run.stderr
        assert "pipe.nii.gz is a named pipe" in run.stderr


def test_what_is_no_file_is_refused_by_check(sgmf: Sgmf, odd_folder: Path) -> None:
    run = sgmf("check", odd_folder, "--json")
    assert run.code == 3
    refused = {
        Path(each["scan"][0]).name.partition(".")[0]
        for each in json.loads(run.stdout)["results"]
        if any(finding["level"] == "refuse" for finding in each["findings"])
    }
    assert refused == {*ODD}


@pytest.mark.parametrize("name", ["dangling", "loop", "device", "pipe", "socket"])
@pytest.mark.parametrize("command", ["check", "infer"])
def test_what_is_no_file_is_refused_alone_too(
    sgmf: Sgmf, tiny_package_path: Path, odd_folder: Path, command: str, name: str
) -> None:
    path = odd_folder / f"{name}.nii.gz"
    if name == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(odd_folder)
            server.bind(path.name)
    run = sgmf(command, path, "-m", tiny_package_path)
    assert run.code == 3
    assert ("the file is " if command == "check" else f"{path} is ") in run.stdout + run.stderr


def with_nan(path: Path) -> Path:
    voxels = HEADS[0].copy()
    voxels[3, 4, 5], voxels[6, 7, 8] = np.nan, np.inf
    return write_scan(path, voxels)


def test_nan_is_refused_replaced_and_recorded(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    with_nan(tmp_path / "in" / "a.nii.gz")
    arguments = (tmp_path / "in", "-m", tiny_package_path, "-o", tmp_path / "out", "--resume")
    run = sgmf("infer", *arguments)
    assert run.code == 3
    assert "--nan-to VALUE" in run.stderr
    run = sgmf("infer", *arguments, "--nan-to", "0")
    assert run.code == 0
    assert "2 of 10560 voxels were NaN or infinite and were set to 0" in run.stderr
    record = json.loads((tmp_path / "out" / "a_seg.run.json").read_text())
    assert (record["nan_to"], record["replaced_voxels"]) == (0, 2)
    assert "1 skipped" in sgmf("infer", *arguments, "--nan-to", "0").stderr
    assert "skipped" not in sgmf("infer", *arguments, "--nan-to", "1").stderr


@pytest.mark.parametrize("value", ["nan", "inf", "1e39", "x"])
def test_only_a_finite_number_takes_the_place_of_nan(
    sgmf: Sgmf, tmp_path: Path, value: str
) -> None:
    run = sgmf("check", with_nan(tmp_path / "a.nii.gz"), "--nan-to", value)
    assert run.code == 2
    assert "--nan-to" in run.stderr


@pytest.mark.parametrize(
    ("names", "options", "code", "words"),
    [
        (["mha_4d_last1.mha"], [], 0, ""),
        (["gz_trailing_zeros.nii.gz"], [], 0, "16 bytes follow the voxels"),
        (["double_gzip.nii.gz"], [], 3, "compressed by gzip twice"),
        (["sct_mtr_nan.nii.gz"], [], 3, "--nan-to VALUE"),
        (["sct_mtr_nan.nii.gz"], ["--nan-to", "0"], 0, "were NaN or infinite and were set to 0"),
        (["two_channels_vector.nrrd"], [], 0, ""),
    ],
)
def test_inputs_with_a_known_answer(
    sgmf: Sgmf, cases_dir: Path, names: list[str], options: list[str], code: int, words: str
) -> None:
    run = sgmf("check", *(cases_dir / name for name in names), *options)
    assert run.code == code, run.stdout
    assert words in run.stdout


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["chan_P_0000.nii.gz", "chan_off0.02mm.nii.gz"], "up to 0.02 mm away"),
        (["two_channels_vector.nrrd"], ""),
    ],
)
def test_two_channels_with_a_known_answer(
    sgmf: Sgmf,
    cases_dir: Path,
    two_channel_package_path: Path,
    tmp_path: Path,
    names: list[str],
    words: str,
) -> None:
    scans = [shutil.copy(cases_dir / name, tmp_path) for name in names]
    run = sgmf("infer", *scans, "-m", two_channel_package_path, "-o", tmp_path / "labels.nii.gz")
    assert run.code == 0, run.stderr
    assert words in run.stderr
