from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from support.packages.samples import head_like, write_scan

from segmaformer import cohort
from segmaformer.cohort import CaseSegmenter
from segmaformer.runtime.errors import PackageError


@pytest.fixture(autouse=True)
def new_process() -> None:
    cohort._opened.cache_clear()


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"a_{channel:04}.nii.gz" for channel in range(2)]
    for file in files:
        write_scan(file, head_like((24, 20, 22)))
    return files


def test_a_copy_segments_as_the_original_and_opens_the_package_once(
    two_channel_package_path: Path,
    scans: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segment = CaseSegmenter(two_channel_package_path, "onnxruntime", threads=1)
    results = [segment(scans, tmp_path / "one.nii.gz")]
    monkeypatch.setattr(
        cohort.PredictorOptions, "open_again", lambda *_: pytest.fail("it was opened again")
    )
    results.append(pickle.loads(pickle.dumps(segment))(scans, tmp_path / "two.nii.gz"))
    assert [result["exit_code"] for result in results] == [0, 0]
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()
    assert json.loads((tmp_path / "two.run.json").read_text())["package"]["name"]


def test_a_scan_that_is_done_is_skipped(
    two_channel_package_path: Path, scans: list[Path], tmp_path: Path
) -> None:
    segment = CaseSegmenter(two_channel_package_path, "onnxruntime", threads=1, resume=True)
    assert segment(scans, tmp_path / "one.nii.gz")["exit_code"] == 0
    assert segment(scans, tmp_path / "one.nii.gz")["skipped"]


def test_a_scan_that_fails_returns_its_error(
    two_channel_package_path: Path, scans: list[Path], tmp_path: Path
) -> None:
    scans[0].write_bytes(b"no scan")
    segment = CaseSegmenter(two_channel_package_path, "onnxruntime", threads=1)
    result = segment(scans, tmp_path / "one.nii.gz")
    assert result["exit_code"] == 3
    assert scans[0].name in result["error"]
    assert not (tmp_path / "one.nii.gz").exists()


def test_a_folder_that_is_no_package_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        CaseSegmenter(tmp_path)
