"""Batches that several processes share, as users see them."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.batch_processes import descendants, start, write_scans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

Sgmf = Callable[..., Any]
COUNT = 10


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "in", COUNT)


def labels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def workers_of(pid: int) -> list[int]:
    """Find the processes that nobody else comes from."""
    return [each for each in descendants(pid) if not descendants(each) and _is_worker(each, pid)]


def _is_worker(pid: int, parent: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and int(fields[1]) != parent


def test_processes_give_the_labels_of_one(
    sgmf: Sgmf, tiny_package_path: Path, scans: Path, tmp_path: Path
) -> None:
    # By name: `auto` times the backends, and may choose another for other threads.
    arguments = ("infer", scans, "-m", tiny_package_path, "--backend", "onnxruntime", "-o")
    (scans / "zz.nii.gz").write_bytes(b"no scan")
    found = {}
    for workers in ("1", "2"):
        run = sgmf(*arguments, tmp_path / workers, "--workers", workers, "--threads", "2")
        assert run.code == 3
        assert f"{COUNT} done, 1 refused" in run.stderr
        found[workers] = labels(tmp_path / workers)
    assert len(found["1"]) == COUNT
    assert found["1"] == found["2"]
    summary = json.loads((tmp_path / "2" / "summary.json").read_text())
    names = [Path(result["scan"][0]).name for result in summary["results"]]
    assert names == sorted(names)
    run = sgmf(*arguments, tmp_path / "2", "--resume", "--ndjson")
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert sum(line.get("skipped", False) for line in lines) == COUNT
    assert [line["exit_code"] for line in lines if "error" in line] == [3]


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_worker_costs_no_scan(
    sgmf: Sgmf, tiny_package_path: Path, scans: Path, tmp_path: Path, seed: int
) -> None:
    choose = random.Random(seed)
    process = start(
        *("infer", scans, "-m", tiny_package_path, "-o", tmp_path / "out", "--workers", "2")
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first scan is done
    time.sleep(choose.uniform(0, 0.2))
    found = workers_of(process.pid)
    if found:
        os.kill(choose.choice(found), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"{COUNT} done" in errors
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    sgmf("infer", scans, "-m", tiny_package_path, "-o", tmp_path / "one", "--workers", "1")
    assert labels(tmp_path / "out") == labels(tmp_path / "one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_command_ends_its_workers(
    tiny_package_path: Path, scans: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = start("infer", scans, "-m", tiny_package_path, "-o", out, "--workers", "2")
    assert process.stdout is not None
    process.stdout.readline()
    others = descendants(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 1)
    deadline = time.monotonic() + 30
    while any(map(_is_running, others)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [*filter(_is_running, others)]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and _is_worker(pid, 0)
