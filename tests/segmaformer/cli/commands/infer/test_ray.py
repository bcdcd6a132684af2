"""Batches that actors of Ray share, as users see them."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.batch_processes import descendants, start, write_scans

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

COUNT = 6


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "in", COUNT)


def running(pids: list[int]) -> set[tuple[int, str]]:
    """Find processes that have not ended, and when each began: numbers are used again."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found.add((pid, fields[19]))
    return found


def actors_of(pid: int) -> list[int]:
    names = {each: Path(f"/proc/{each}/cmdline") for each in descendants(pid)}
    return [each for each, name in names.items() if b"RayActor" in name.read_bytes()]


def listening(pids: list[int]) -> set[str]:
    """Find the addresses, in the kernel's hexadecimal, on which processes listen by TCP."""
    sockets = set()
    for pid in pids:
        try:
            links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def test_neither_a_killed_command_nor_a_killed_actor_costs_a_scan(
    tiny_package_path: Path, scans: Path, tmp_path: Path
) -> None:
    arguments = ("infer", scans, "-m", tiny_package_path, "--backend", "onnxruntime", "-o")
    out = tmp_path / "out"
    process = start(*arguments, out, "--ray", "--workers", "2")
    assert process.stdout is not None
    process.stdout.readline()  # the first scan is done
    others = descendants(process.pid)
    assert listening(others) <= set(LOOPBACK)
    actors = running(actors_of(process.pid))
    assert actors
    process.kill()
    process.communicate(timeout=120)
    done = len([*out.glob("*.run.json")])
    assert done

    process = start(*arguments, out, "--ray", "--workers", "2", "--resume", "--ndjson")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(done + (done < COUNT))]
    for actor in actors_of(process.pid)[:1]:
        os.kill(actor, signal.SIGKILL)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    results = [json.loads(line) for line in [*lines, *rest.splitlines()] if line]
    assert sum(result.get("skipped", False) for result in results) >= done
    assert len(results) == COUNT
    assert not [path for path in out.iterdir() if path.name.startswith(".")]

    process = start(*arguments, tmp_path / "one", "--workers", "1")
    process.communicate(timeout=120)
    for path in (tmp_path / "one").glob("*.nii.gz"):
        assert path.read_bytes() == (out / path.name).read_bytes()
    assert not actors & running(others)
