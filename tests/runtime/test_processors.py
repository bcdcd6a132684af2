from __future__ import annotations

import os
from pathlib import Path

import pytest

from segmaformer.runtime import processors


@pytest.fixture(autouse=True)
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the kernel's."""
    folder = tmp_path / "cpu"
    folder.mkdir()
    monkeypatch.setattr(processors, "CPU_TOPOLOGY", folder)
    return folder


def tell_siblings(topology: Path, processor: int, siblings: str) -> None:
    folder = topology / f"cpu{processor}" / "topology"
    folder.mkdir(parents=True)
    (folder / "thread_siblings_list").write_text(siblings + "\n")


@pytest.mark.parametrize(
    ("siblings", "affinity", "cores"),
    [
        (["0,2", "1,3", "0,2", "1,3"], {0, 1, 2, 3}, 2),
        (["0-1", "0-1", "2-3", "2-3"], {0, 1, 2}, 2),
        (["0", "1", "2", "3"], {0, 1, 2, 3}, 4),
        (["0,2", "1,3", "0,2", "1,3"], {3}, 1),
        ([], {0, 1, 2, 3}, 4),
        (["", ""], {0, 1}, 2),
    ],
)
def test_threads_of_one_core_count_once(
    topology: Path,
    monkeypatch: pytest.MonkeyPatch,
    siblings: list[str],
    affinity: set[int],
    cores: int,
) -> None:
    for processor, names in enumerate(siblings):
        tell_siblings(topology, processor, names)
    monkeypatch.setattr(processors, "CPU_QUOTA", topology / "none")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: affinity, raising=False)
    assert processors.available_processors() == cores


@pytest.mark.parametrize(
    ("quota", "limit"),
    [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("max 100000", 64),
     ("", 64), ("garbage", 64), ("a b", 64)],
)  # fmt: skip
def test_processors_are_capped_by_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, limit: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(processors, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)), raising=False)
    assert processors.available_processors() == min(limit, 32)


def test_processors_without_a_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "CPU_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processors.available_processors() == 1
