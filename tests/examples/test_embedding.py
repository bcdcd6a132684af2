"""The embedding examples, compiled and run: one scan, three languages, one label map."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from support.native.libsgmf import EXAMPLES, library_path, onnxruntime_path
from support.packages.samples import head_like
from support.packages.small_packages import write_ct_package

from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.scans.volume import Volume

MISSED = 20
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
AFFINE = np.array([[1.1, 0.1, 0, -20], [-0.1, 1, 0.2, -30], [0, -0.2, 1.2, 11], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile both examples and return their folder."""
    compilers = [shutil.which(name) for name in ("cc", "c++")]
    if None in compilers:
        pytest.skip("no C and C++ compiler")
    c, cpp = map(str, compilers)
    folder = tmp_path_factory.mktemp("examples")
    library = library_path()
    include = f"-I{library.parents[1] / 'include'}"
    link = (str(library), f"-Wl,-rpath,{library.parent}")
    volume = str(folder / "raw_volume.o")

    def compile_one(compiler: str, *arguments: str) -> None:
        subprocess.run([compiler, *WARNINGS, include, *arguments], check=True, cwd=EXAMPLES)

    compile_one(c, "-std=c11", "-c", "raw_volume.c", "-o", volume)
    output = str(folder / "segment_raw")
    compile_one(c, "-std=c11", "segment_raw.c", volume, *link, "-o", output)
    output = str(folder / "reconstruction_step")
    compile_one(
        cpp, "-std=c++17", "reconstruction_step.cc", volume, *link, "-pthread", "-o", output
    )
    return folder


def write_raw(folder: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Return header and voxels (C, X, Y, Z) as the examples read them."""
    voxels.transpose(0, 3, 2, 1).tofile(folder / "scan.raw")
    header = folder / "scan.txt"
    lines = {
        "type": voxels.dtype.name,
        "channels": len(voxels),
        "shape": " ".join(map(str, voxels.shape[1:])),
        "affine": " ".join(repr(float(number)) for number in affine.ravel()),
        "data": "scan.raw",
    }
    header.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    return header


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SGMF_ONNXRUNTIME": str(onnxruntime_path())}
    return subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def segment_in_c(programs: Path, package: Path, header: Path, output: Path) -> None:
    result = run(programs / "segment_raw", package, header, output)
    assert result.returncode == 0, result.stderr
    assert "ONNX Runtime" in result.stdout


def segment_in_cpp(programs: Path, package: Path, header: Path, output: Path) -> None:
    result = run(programs / "reconstruction_step", package, header, output, "200")
    assert result.returncode == 0, result.stderr
    assert "before the deadline" in result.stdout


def segment_in_python(_: Path, package: Path, header: Path, output: Path) -> None:
    script = EXAMPLES / "segment_raw.py"
    result = run(sys.executable, script, library_path(), package, header, output)
    assert result.returncode == 0, result.stderr
    assert "label 0" in result.stdout


LANGUAGES = {"C": segment_in_c, "C++": segment_in_cpp, "Python": segment_in_python}


@pytest.fixture(scope="module")
def ct_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct_package(tmp_path_factory.mktemp("ct") / "ct.sgmf")


def check_labels(
    segment: Callable[[Path, Path, Path, Path], None],
    programs: Path,
    package: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    folder: Path,
) -> None:
    """Compare the labels of an example with Python's."""
    volume = Volume(voxels.astype(np.float32), affine)
    expected = Predictor(Package.open(package), "onnxruntime").predict(volume).labels
    output = folder / "labels.raw"
    segment(programs, package, write_raw(folder, voxels, affine), output)
    found = np.fromfile(output, expected.dtype).reshape(expected.shape, order="F")
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_multi_class_ct(language: str, programs: Path, ct_package: Path, tmp_path: Path) -> None:
    voxels = (head_like((40, 36, 44)) * 4 - 300).astype(np.int16)[None]
    check_labels(LANGUAGES[language], programs, ct_package, voxels, AFFINE, tmp_path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_hippocampus_reference_model(
    language: str, programs: Path, hippocampus_package_path: Path, data_dir: Path, tmp_path: Path
) -> None:
    scan = sorted((data_dir / "msd_hippocampus/imagesTr").glob("*.nii.gz"))[3]
    image = nibabel.load(scan)
    voxels = np.asarray(image.dataobj)[None]
    affine = image.affine.astype(np.float64)
    check_labels(LANGUAGES[language], programs, hippocampus_package_path, voxels, affine, tmp_path)


def test_a_missed_deadline_is_reported(programs: Path, ct_package: Path, tmp_path: Path) -> None:
    header = write_raw(tmp_path, head_like((40, 36, 44))[None], AFFINE)
    output = tmp_path / "labels.raw"
    result = run(programs / "reconstruction_step", ct_package, header, output, "0")
    assert result.returncode == MISSED
    assert "deadline of 0.000 s missed" in result.stdout
    assert not output.exists()


def test_errors_reach_the_user(programs: Path, ct_package: Path, tmp_path: Path) -> None:
    header = write_raw(tmp_path, head_like((40, 36, 44))[None], AFFINE)
    for program, deadline in (("segment_raw", ()), ("reconstruction_step", ("5",))):
        result = run(programs / program, tmp_path / "none.sgmf", header, "labels.raw", *deadline)
        assert result.returncode == 4
        assert "SGMF_NOT_FOUND: there is no package at" in result.stderr
        (tmp_path / "bad.txt").write_text("type int16\nshape 3 3\n")
        command = (programs / program, ct_package, tmp_path / "bad.txt", "labels.raw", *deadline)
        assert "expected type, channels, shape, affine and data" in run(*command).stderr


def test_usage_is_shown(programs: Path) -> None:
    for program in ("segment_raw", "reconstruction_step"):
        result = run(programs / program)
        assert result.returncode == 2
        assert result.stderr.startswith(f"usage: {program}")
