from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from support.stand_ins import mortal_worker

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort import pool, processes
from segmaformer.cli.cohort.batch import worker_count
from segmaformer.cli.cohort.progress_line import progress_text
from segmaformer.cli.cohort.worker import Task
from segmaformer.cli.exit_codes import FAILED, OtherProcessError
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.runtime.pipeline.scan_image import ScanOptions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

OPTIONS = PredictorOptions((), "auto", None, None, False, None, None, ScanOptions(), True)
TASK = Task(OPTIONS, False, None)


@pytest.fixture(autouse=True)
def mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "run_worker", mortal_worker.run)


def segment(folder: Path, names: list[str], count: int) -> dict[str, dict[str, Any]]:
    cases = [Case((folder / name,), folder / f"{name}_seg.nii.gz") for name in names]
    with pool.Pool(processes.ProcessHost(2), TASK, count) as workers:
        workers.wait_until_ready()
        return {case.name: result for case, result in workers.segment(cases)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_scan_is_done_once(tmp_path: Path, count: int) -> None:
    names = [f"{index}" for index in range(20)]
    results = segment(tmp_path, names, count)
    assert sorted(results) == sorted(names)
    assert {result["exit_code"] for result in results.values()} == {0}


@pytest.mark.parametrize("count", [1, 2])
def test_a_scan_that_ends_its_process_twice_has_failed_and_the_others_are_done(
    tmp_path: Path, count: int
) -> None:
    names = ["a", "frail b", "c", "deadly d", "e", "frail f", "g", "deadly h"]
    results = segment(tmp_path, names, count)
    assert sorted(results) == sorted(names)
    failed = {name: result["error"] for name, result in results.items() if result["exit_code"]}
    assert sorted(failed) == ["deadly d", "deadly h"]
    assert "SIGKILL" in failed["deadly d"]
    assert results["deadly h"]["exit_code"] == FAILED


def test_a_package_that_cannot_be_opened_ends_the_batch_with_its_own_error() -> None:
    with (
        pytest.raises(OtherProcessError, match="no such network") as caught,
        pool.Pool(processes.ProcessHost(2), dataclasses.replace(TASK, names=True), 2) as workers,
    ):
        workers.wait_until_ready()
    assert caught.value.code == 4


def test_a_machine_that_is_unfit_ends_the_batch_if_it_is_the_only_one() -> None:
    task = dataclasses.replace(TASK, may_use_gpu=False)
    with (
        pytest.raises(OtherProcessError, match="does not see the scans"),
        pool.Pool(processes.ProcessHost(2), task, 2) as workers,
    ):
        workers.wait_until_ready()


@pytest.mark.parametrize(
    ("scans", "processors", "fitting", "expected"),
    [
        (3, 16, None, 1),
        (8, 16, None, 2),
        (1000, 16, None, 16),
        (1000, 1, None, 1),
        (1000, 16, 4, 4),
        (1000, 16, 0, 1),
    ],
)
def test_workers_go_by_scans_processors_and_memory(
    scans: int, processors: int, fitting: int | None, expected: int
) -> None:
    assert worker_count(scans, processors, fitting) == expected


def test_a_part_of_the_free_memory_holds_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "available_bytes", lambda: 5000 << 20)
    assert processes.ProcessHost(16).fitting(1000) == 4


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        (37, 9.0, "37 of 208 scans, 4.1 a second, 0:00:42 left"),
        (2, 120.0, "2 of 208 scans, 60.0 s each, 3:26:00 left"),
        (208, 60.0, "208 of 208 scans, 3.5 a second, 0:00:00 left"),
    ],
)
def test_the_line_has_count_rate_and_time_left(done: int, seconds: float, expected: str) -> None:
    assert progress_text(done, 208, seconds) == expected
