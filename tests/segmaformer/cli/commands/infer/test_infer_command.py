from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from support.packages.samples import copy_package, edit_manifest, flip_byte, head_like, write_scan

from segmaformer.runtime.backends import onnxruntime_cuda
from segmaformer.runtime.predictor import Predictor

Sgmf = Callable[..., Any]
Tree = Callable[[Path], dict[str, bytes | None]]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.nii.gz")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_label_map_lies_beside_the_scan_and_its_path_on_stdout(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    run = sgmf("infer", scan, "-m", tiny_package_path)
    output = scan.with_name("scan_seg.nii.gz")
    assert (run.code, run.stdout) == (0, f"{output}\n")
    assert run.stderr.splitlines()[-1].startswith(("tiny: ONNX Runtime ", "tiny: OpenVINO "))
    assert names(scan.parent) == ["scan.nii.gz", "scan_seg.nii.gz", "scan_seg.run.json"]


def test_the_label_map_has_the_scans_grid(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    affine = np.array([[0, 0, 1.5, -3], [-1.25, 0, 0, 40], [0, 0.9, 0, -7], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(head_like((33, 20, 41)), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    nibabel.save(image, tmp_path / "scan.nii")
    assert sgmf("infer", tmp_path / "scan.nii", "-m", tiny_package_path).code == 0
    labels = nibabel.load(tmp_path / "scan_seg.nii.gz")
    assert labels.shape == image.shape
    assert labels.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(labels.affine, nibabel.load(tmp_path / "scan.nii").affine)
    assert (int(labels.header["qform_code"]), int(labels.header["sform_code"])) == (1, 4)
    assert set(np.unique(labels.dataobj)) <= {0, 1, 2}


def test_a_scan_smaller_than_a_tile_is_segmented(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "small.nii", head_like((5, 6, 7)) + np.float32(1))
    assert sgmf("infer", scan, "-m", tiny_package_path).code == 0
    assert nibabel.load(tmp_path / "small_seg.nii.gz").shape == (5, 6, 7)


@pytest.mark.parametrize("kind", ["file", "nii", "folder", "relative"])
def test_the_output_may_be_a_file_or_a_folder(
    sgmf: Sgmf,
    tiny_package_path: Path,
    scan: Path,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    given, written = {
        "file": (folder / "labels.nii.gz", "labels.nii.gz"),
        "nii": (folder / "labels.nii", "labels.nii"),
        "folder": (folder, "scan_seg.nii.gz"),
        "relative": (Path("labels.nii.gz"), "labels.nii.gz"),
    }[kind]
    run = sgmf("infer", scan, "-m", tiny_package_path, "-o", given)
    assert run.code == 0
    assert names(folder) == [written, written.partition(".")[0] + ".run.json"]
    assert Path(run.stdout.rstrip("\n")).resolve() == folder / written


def test_the_package_may_come_from_the_environment(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sgmf("infer", scan)
    assert (run.code, run.stdout) == (2, "")
    assert "--model" in run.stderr
    monkeypatch.setenv("SGMF_MODEL", str(tiny_package_path))
    assert sgmf("infer", scan).code == 0


def test_preview_and_statistics_lie_beside_the_label_map(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    run = sgmf("infer", scan, "-m", tiny_package_path, "--preview", "--stats")
    assert run.code == 0
    paths = [Path(line) for line in run.stdout.splitlines()]
    assert [path.name for path in paths] == ["scan_seg.nii.gz", "scan_seg.png", "scan_seg.json"]
    with Image.open(paths[1]) as picture:
        assert picture.format == "PNG"
    document = json.loads(paths[2].read_text())
    assert {"output", "package", "backend", "seconds", "statistics"} <= set(document)
    labels = np.asanyarray(nibabel.load(paths[0]).dataobj)
    for label in document["statistics"]["labels"]:
        assert label["voxel_count"] == np.count_nonzero(labels == label["value"])
        assert set(label) >= {"name", "volume_mm3", "bounding_box", "intensity_mean"}


def test_json_is_one_document_and_nothing_else(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    run = sgmf("infer", scan, "-m", tiny_package_path, "--json", "--preview")
    document = json.loads(run.stdout)
    assert run.code == 0
    assert document["model"] == str(tiny_package_path)
    (result,) = document["results"]
    assert result["exit_code"] == 0
    assert result["scan"] == [str(scan)]
    assert result["output"] == str(scan.with_name("scan_seg.nii.gz"))
    assert result["preview"] == str(scan.with_name("scan_seg.png"))
    assert result["statistics"]["labels"][0]["name"] == "anterior"


def test_a_gpu_that_is_not_there_is_an_error_with_its_remedy(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    if onnxruntime_cuda.what_is_missing() is None:
        pytest.skip("this machine has all that it takes")
    options = ("--backend", "onnxruntime", "--device", "cuda")
    run = sgmf("infer", scan, "-m", tiny_package_path, *options)
    assert run.code == 1
    assert run.stdout == ""
    assert "pip install 'onnxruntime-gpu" in run.stderr or "driver" in run.stderr


def test_variant_threads_mirroring_and_budget_are_passed_on(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    plain = sgmf("infer", scan, "-m", tiny_package_path, "--json")
    options = ("--variant", "fp16", "--threads", "1", "--tta", "--memory-budget", "512")
    run = sgmf("infer", scan, "-m", tiny_package_path, *options, "--backend", "auto", "--json")
    assert run.code == 0
    assert "CPU, fp16, 1 thread" in run.stderr
    counts = [
        [
            label["voxel_count"]
            for label in json.loads(found.stdout)["results"][0]["statistics"]["labels"]
        ]
        for found in (plain, run)
    ]
    assert counts[0] != counts[1]


def test_mirroring_that_the_package_does_not_allow_is_said(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, tmp_path: Path
) -> None:
    package = copy_package(tiny_package_path, tmp_path)
    edit_manifest(package, '"mirror_axes": [\n      2\n    ]', '"mirror_axes": []')
    run = sgmf("infer", scan, "-m", package, "--tta")
    assert run.code == 0
    assert "--tta changes nothing" in run.stderr


def test_a_batch_goes_on_past_a_refused_scan(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    good = [write_scan(tmp_path / f"{name}.nii.gz") for name in ("a", "c")]
    bad = tmp_path / "b.nii.gz"
    bad.write_bytes(good[0].read_bytes()[:-40])
    (tmp_path / "out").mkdir()
    arguments = (good[0], bad, good[1], "-m", tiny_package_path, "-o", tmp_path / "out")
    run = sgmf("infer", *arguments, "--preview")
    assert run.code == 3
    written = ["a_seg.nii.gz", "a_seg.png", "c_seg.nii.gz", "c_seg.png"]
    records = ["a_seg.run.json", "c_seg.run.json"]
    assert names(tmp_path / "out") == sorted(written + records)
    assert [Path(line).name for line in run.stdout.splitlines()] == written
    assert [line.startswith("sgmf: ") for line in run.stderr.splitlines()].count(True) == 1
    assert str(bad) in run.stderr
    assert "2 done, 1 refused" in run.stderr

    run = sgmf("infer", *arguments, "--json")
    assert run.code == 3
    results = json.loads(run.stdout)["results"]
    assert [result["exit_code"] for result in results] == [0, 3, 0]
    assert str(bad) in results[1]["error"]
    assert "error" not in results[0]


def test_two_channels_are_two_files_a_scan(
    sgmf: Sgmf, two_channel_package_path: Path, tmp_path: Path, tree: Tree
) -> None:
    scans = [
        write_scan(tmp_path / f"{name}.nii", head_like((20, 20, 20), seed=seed))
        for seed, name in enumerate(("a_0000", "a_0001", "b_0000", "b_0001"))
    ]
    run = sgmf("infer", *scans, "-m", two_channel_package_path)
    assert run.code == 0
    assert [Path(line).name for line in run.stdout.splitlines()] == [
        "a_0000_seg.nii.gz",
        "b_0000_seg.nii.gz",
    ]
    before = tree(tmp_path)
    run = sgmf("infer", *scans[:3], "-m", two_channel_package_path)
    assert (run.code, run.stdout) == (3, "")
    assert "takes 2 channels" in run.stderr
    assert tree(tmp_path) == before


def nifti_bytes(voxels: np.ndarray, **header: Any) -> bytes:
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    content = bytearray(image.to_bytes())
    fields = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in header.items():
        fields[name] = value
    content[:348] = fields.binaryblock
    return bytes(content)


def with_voxel(value: float) -> bytes:
    voxels = head_like((10, 11, 12))
    voxels[3, 4, 5] = value
    return nifti_bytes(voxels)


HEAD = head_like((10, 11, 12))
BAD_SCANS: dict[str, tuple[str, bytes, str]] = {
    "a text file": ("scan.nii", b"This is a note.\n" * 100, "not a NIfTI file"),
    "an empty file": ("scan.nii", b"", "is empty"),
    "an empty gzip": ("scan.nii.gz", gzip.compress(b"", mtime=0), "is empty"),
    "a PNG": ("scan.nii.gz", b"\x89PNG\r\n\x1a\n" + bytes(400), "is a PNG picture"),
    "a cut gzip": ("scan.nii.gz", gzip.compress(nifti_bytes(HEAD), mtime=0)[:-200], "cut off"),
    "a damaged gzip": ("scan.nii.gz", b"\x1f\x8b" + bytes(300), "damaged"),
    "a cut file": ("scan.nii", nifti_bytes(HEAD)[:-100], "cut off"),
    "a header alone": ("scan.nii", nifti_bytes(HEAD)[:352], "cut off"),
    "four axes": ("scan.nii", nifti_bytes(np.stack([HEAD] * 3, -1)), "4-D"),
    "two axes": ("scan.nii", nifti_bytes(HEAD[..., 0]), "2-D"),
    "a NaN": ("scan.nii", with_voxel(np.nan), "NaN or infinite"),
    "an infinity": ("scan.nii", with_voxel(np.inf), "NaN or infinite"),
    "complex numbers": ("scan.nii", nifti_bytes(HEAD.astype(np.complex64)), "complex64"),
    "only zeros": ("scan.nii", nifti_bytes(HEAD * 0), "zero"),
    "a singular affine": (
        "scan.nii",
        nifti_bytes(HEAD, sform_code=1, srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]),
        "singular",
    ),
    "an affine that is no number": (
        "scan.nii",
        nifti_bytes(HEAD, sform_code=1, srow_x=[np.nan, 0, 0, 0]),
        "affine",
    ),
    "no spacing": ("scan.nii", nifti_bytes(HEAD, pixdim=[1, 1, 0, 1, 0, 0, 0, 0]), "voxel size"),
    "a huge promise": ("scan.nii", nifti_bytes(HEAD, dim=[3, 30000, 30000, 30000] + [1] * 4),
                       "cut off"),
}  # fmt: skip


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("name", "content", "complaint"), BAD_SCANS.values(), ids=BAD_SCANS)
def test_a_scan_that_cannot_be_right_is_refused_and_nothing_is_written(
    sgmf: Sgmf,
    tiny_package_path: Path,
    tmp_path: Path,
    tree: Tree,
    name: str,
    content: bytes,
    complaint: str,
    as_json: bool,
) -> None:
    (tmp_path / name).write_bytes(content)
    before = tree(tmp_path)
    options = ("--preview", "--stats", *["--json"][: int(as_json)])
    run = sgmf("infer", tmp_path / name, "-m", tiny_package_path, *options)
    assert run.code == 3
    assert tree(tmp_path) == before
    assert complaint in run.stderr
    assert run.stderr.count(str(tmp_path / name)) == 1
    if as_json:
        (result,) = json.loads(run.stdout)["results"]
        assert result["exit_code"] == 3
        assert complaint in result["error"]
    else:
        assert run.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{scan}", "-m", "none.sgmf"], "none.sgmf"),
        (["{scan}", "-m", "{scan}"], "is a file"),
        (["none.nii", "-m", "{package}"], "none.nii"),
        (["{folder}", "-m", "{package}"], "need a folder for results"),
        (["{scan}", "none.nii", "-m", "{package}"], "none.nii"),
        (["{scan}", "-m", "{package}", "--variant", "int8"], "has no variant 'int8'; it has fp32"),
        (["{scan}", "-m", "{package}", "--backend", "abacus"], "abacus"),
        (
            ["{scan}", "-m", "{package}", "--backend", "tensorrt", "--device", "cpu"],
            "tensorrt runs on cuda, not on cpu",
        ),
        (["{scan}", "-m", "{package}", "--threads", "0"], "--threads"),
        (["{scan}", "-m", "{package}", "--memory-budget", "0"], "--memory-budget"),
        (["{scan}", "-m", "{package}", "-o", "{scan}"], "would be replaced"),
        (["{scan}", "-m", "{package}", "-o", "{folder}/none/x.nii"], "create it first"),
        (["{scan}", "-m", "{package}", "-o", "{scan}/x.nii"], "not a folder"),
        (["{scan}", "-m", "{package}", "-o", "{folder}/x.zip"], "must end in"),
        (["{scan}", "{scan}", "-m", "{package}"], "2 results would be written"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_written(
    sgmf: Sgmf,
    tiny_package_path: Path,
    scan: Path,
    tree: Tree,
    arguments: list[str],
    complaint: str,
) -> None:
    before = tree(scan.parent)
    places = {"scan": scan, "folder": scan.parent, "package": tiny_package_path}
    run = sgmf("infer", *(argument.format(**places) for argument in arguments))
    assert (run.code, run.stdout) == (2, "")
    assert complaint in run.stderr
    assert tree(scan.parent) == before


@pytest.mark.parametrize("file", ["manifest.json", "card.md", "fp32.onnx", "fp16.onnx"])
def test_a_package_with_one_flipped_byte_is_refused(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, tmp_path: Path, file: str, tree: Tree
) -> None:
    package = copy_package(tiny_package_path, tmp_path)
    flip_byte(package / file, (package / file).stat().st_size // 2)
    before = tree(tmp_path)
    run = sgmf("infer", scan, "-m", package)
    assert (run.code, run.stdout) == (4, "")
    assert file in run.stderr
    assert tree(tmp_path) == before
    run = sgmf("infer", scan, "-m", package, "--json")
    assert json.loads(run.stdout)["exit_code"] == 4


def test_a_folder_that_is_no_package_is_refused(sgmf: Sgmf, scan: Path) -> None:
    run = sgmf("infer", scan, "-m", scan.parent)
    assert (run.code, run.stdout) == (4, "")
    assert "is no package" in run.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_permission_is_told_before_the_work(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    run = sgmf("infer", scan, "-m", tiny_package_path, "-o", tmp_path / "out")
    assert (run.code, run.stdout) == (1, "")
    assert "Permission denied" in run.stderr


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="this system has no /sys")
def test_a_folder_that_takes_no_files_is_told_before_the_work(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "predict", lambda *_, **__: pytest.fail("worked in vain"))
    run = sgmf("infer", scan, "-m", tiny_package_path, "-o", "/sys/kernel/labels.nii.gz")
    assert (run.code, run.stdout) == (1, "")
    assert "cannot write /sys/kernel/labels.nii.gz" in run.stderr


@pytest.mark.parametrize(
    ("method", "error", "code"),
    [
        ("prepare", MemoryError(), 1),
        ("segment", KeyboardInterrupt(), 1),
        ("segment", MemoryError(), 1),
        ("save", OSError(28, "No space left on device"), 1),
        ("save_preview", OSError(28, "No space left on device"), 1),
        ("statistics", KeyboardInterrupt(), 1),
    ],
)
def test_a_failure_midway_leaves_nothing(
    sgmf: Sgmf,
    tiny_package_path: Path,
    scan: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: BaseException,
    code: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    owner = "Predictor" if method in ("prepare", "segment") else "Segmentation"
    monkeypatch.setattr(f"segmaformer.runtime.predictor.{owner}.{method}", fail)
    before = tree(scan.parent)
    run = sgmf("infer", scan, "-m", tiny_package_path, "--preview", "--stats")
    assert (run.code, run.stdout) == (code, "")
    assert tree(scan.parent) == before


def test_results_of_an_earlier_run_are_replaced(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    scan.with_name("scan_seg.nii.gz").write_bytes(b"old")
    run = sgmf("infer", scan, "-m", tiny_package_path)
    assert run.code == 2
    assert "no scan_seg.run.json beside it says that a run made it" in run.stderr
    scan.with_name("scan_seg.run.json").write_bytes(b"{}")
    assert sgmf("infer", scan, "-m", tiny_package_path).code == 0
    assert nibabel.load(scan.with_name("scan_seg.nii.gz")).shape == (30, 34, 28)


def test_a_name_that_is_no_text_is_taken_and_printed_as_it_is(
    tiny_package_path: Path, tmp_path: Path, scan: Path
) -> None:
    name = os.fsdecode(b"scan\xff.nii.gz")
    try:
        scan.rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes only names that are text")
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "segmaformer.cli",
            "infer",
            tmp_path / name,
            "-m",
            tiny_package_path,
        ],
        capture_output=True,
        check=False,
    )
    assert found.stdout == os.fsencode(tmp_path) + b"/scan\xff_seg.nii.gz\n"
    assert (found.returncode, b"Traceback" in found.stderr) == (0, False)


def test_it_works_where_pytorch_and_onnx_are_not_installed(
    tiny_package_path: Path, scan: Path
) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'onnx_ir', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from segmaformer.cli import main\n"
        "main()\n"
    )
    run = [sys.executable, "-c", code]
    options = ["-m", tiny_package_path, "--preview", "--stats", "--json"]
    found = subprocess.run([*run, "infer", scan, *options], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()
    assert json.loads(found.stdout)["results"][0]["exit_code"] == 0
    found = subprocess.run([*run, "export", scan], capture_output=True, check=False)
    assert found.returncode == 1
    assert b"pip install 'segmaformer[export]'" in found.stderr
    assert b"Traceback" not in found.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scans, of which the second is damaged."""
    scans = [write_scan(tmp_path / "in" / f"{name}.nii.gz") for name in ("a", "b", "c")]
    scans[1].write_bytes(scans[0].read_bytes()[:-40])
    return tmp_path / "in"


def test_a_folder_is_done_but_for_what_is_refused(
    sgmf: Sgmf, tiny_package_path: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = sgmf("infer", folder, "-m", tiny_package_path, "-o", out)
    assert run.code == 3
    done = [f"{name}_seg{suffix}" for name in "ac" for suffix in (".nii.gz", ".run.json")]
    assert names(out) == [*done, "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    assert [result["exit_code"] for result in summary["results"]] == [0, 3, 0]


def written_when(path: Path) -> tuple[int, int]:
    """Return a file's identity and time of writing, but not of reading."""
    info = path.stat()
    return info.st_ino, info.st_mtime_ns


def test_resume_does_what_is_left(
    sgmf: Sgmf, tiny_package_path: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ("infer", folder, "-m", tiny_package_path, "-o", tmp_path / "out", "--resume")
    assert sgmf(*arguments).code == 3
    first = written_when(tmp_path / "out" / "a_seg.nii.gz")
    (tmp_path / "out" / "c_seg.nii.gz").write_bytes(b"damaged")
    write_scan(folder / "b.nii.gz")
    run = sgmf(*arguments)
    assert run.code == 0
    assert "1 skipped, 2 done" in run.stderr
    assert written_when(tmp_path / "out" / "a_seg.nii.gz") == first


def test_resume_goes_on_with_other_threads_unless_it_is_strict(
    sgmf: Sgmf, tiny_package_path: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ("-m", tiny_package_path, "-o", tmp_path / "out", "--threads")
    sgmf("infer", folder, *arguments, "2")
    assert "2 skipped" in sgmf("infer", "--resume", folder, *arguments, "1").stderr
    assert "skipped" not in sgmf("infer", folder, *arguments, "1", "--resume=strict").stderr
    assert "2 skipped" in sgmf("infer", folder, *arguments, "1", "--resume=strict").stderr
    wrong = sgmf("infer", folder, *arguments, "1", "--resume=loose")
    assert (wrong.code, "strict" in wrong.stderr) == (2, True)


def test_resume_does_not_mix_mirrored_and_plain_results(
    sgmf: Sgmf, tiny_package_path: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ("infer", folder, "-m", tiny_package_path, "-o", tmp_path / "out", "--resume")
    sgmf(*arguments)
    assert "skipped" not in sgmf(*arguments, "--tta").stderr
    record = json.loads((tmp_path / "out" / "a_seg.run.json").read_text())
    assert record["mirrored_axes"] == [2]
    assert "2 skipped" in sgmf(*arguments, "--tta").stderr
    assert "skipped" not in sgmf(*arguments).stderr


def test_shards_divide_the_work(
    sgmf: Sgmf, tiny_package_path: Path, folder: Path, tmp_path: Path
) -> None:
    write_scan(folder / "b.nii.gz")
    out = tmp_path / "out"
    for shard, expected in (("1/2", ["a", "c"]), ("2/2", ["b"])):
        run = sgmf("infer", folder, "-m", tiny_package_path, "-o", out, "--shard", shard)
        assert [Path(line).name[0] for line in run.stdout.splitlines()] == expected
    assert {"summary-1-of-2.json", "summary-2-of-2.json"} <= set(names(out))
    wrong = sgmf("infer", folder, "-m", tiny_package_path, "-o", out, "--shard", "3/2")
    assert wrong.code == 2
    assert "no part of 2" in wrong.stderr


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_interrupted_batch_leaves_no_part_of_a_file_and_is_resumed(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path, signal_name: str
) -> None:
    for index in range(12):
        write_scan(tmp_path / "in" / f"{index:02}.nii.gz")
    out = tmp_path / "out"
    arguments = ["infer", str(tmp_path / "in"), "-m", str(tiny_package_path), "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from segmaformer.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        # Whoever started the tests may have it ignored, which is handed down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first scan is done
    process.send_signal(getattr(signal, signal_name))
    assert process.wait(timeout=60) == (-signal.SIGKILL if signal_name == "SIGKILL" else 1)
    process.stdout.close()
    finished = [path for path in out.glob("*.nii.gz") if not path.name.startswith(".")]
    assert 1 <= len(finished) < 12
    if signal_name != "SIGKILL":
        assert not [path for path in out.iterdir() if path.name.startswith(".")]
    for path in finished:
        nibabel.load(path).get_fdata()
    run = sgmf(*arguments, "--resume")
    assert run.code == 0
    assert len(names(out)) == 2 * 12 + 1  # and nothing that the killed run left
    skipped = int(run.stderr.split(" skipped")[0].rsplit(maxsplit=1)[-1])
    # A worker whose parent was killed may have ended its scan since.
    assert skipped == len(finished) or (signal_name == "SIGKILL" and len(finished) < skipped < 12)


def test_probabilities_lie_beside_the_label_map(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    labels = ("background", "anterior", "2")
    options = [argument for label in labels for argument in ("--probabilities", label)]
    run = sgmf("infer", scan, "-m", tiny_package_path, *options)
    assert run.code == 0
    written = [Path(line) for line in run.stdout.splitlines()]
    assert [path.name for path in written[1:]] == [
        f"scan_seg_prob-{label}.nii.gz" for label in labels
    ]
    maps = np.stack([np.asarray(nibabel.load(path).dataobj) for path in written[1:]])
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-5)
    found = np.asarray(nibabel.load(written[0]).dataobj)
    assert (maps.argmax(axis=0) == found).mean() > 0.999


def test_the_probability_of_an_unknown_label_is_refused(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path
) -> None:
    run = sgmf("infer", scan, "-m", tiny_package_path, "--probabilities", "tail")
    assert run.code == 2
    assert "no label 'tail'" in run.stderr


def test_the_report_is_a_page_of_its_own(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, tmp_path: Path
) -> None:
    run = sgmf("infer", scan, "-m", tiny_package_path, "--report", tmp_path / "look.html")
    assert run.code == 0
    assert (tmp_path / "look.html").read_text(encoding="utf-8").lower().startswith("<!doctype html")


def test_postprocessing_can_be_left_out_and_the_record_says_so(
    sgmf: Sgmf, tiny_package_path: Path, scan: Path, tmp_path: Path
) -> None:
    package = copy_package(tiny_package_path, tmp_path)
    edit_manifest(package, '"postprocessing": []', '"postprocessing": [{"keep_largest": [1, 2]}]')
    found = {}
    for options in ((), ("--no-postprocessing",)):
        assert sgmf("infer", scan, "-m", package, *options).code == 0
        record = json.loads(scan.with_name("scan_seg.run.json").read_text())
        labels = np.asanyarray(nibabel.load(scan.with_name("scan_seg.nii.gz")).dataobj)
        found[options] = record["postprocessing"], record["postprocessing_left_out"], labels
    step = ["largest component of 1 and 2"]
    assert [each[:2] for each in found.values()] == [(step, []), ([], step)]
    plain = sgmf("infer", scan, "-m", tiny_package_path)
    assert plain.code == 0
    expected = np.asanyarray(nibabel.load(scan.with_name("scan_seg.nii.gz")).dataobj)
    np.testing.assert_array_equal(found[("--no-postprocessing",)][2], expected)
    inspected = json.loads(sgmf("inspect", package, "--json").stdout)
    assert inspected["postprocessing"] == step
