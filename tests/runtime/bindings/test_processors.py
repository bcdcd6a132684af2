from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.native.processors import PROCESSORS as OWN

from segmaformer.runtime.bindings.processors import available_processors

pytestmark = [
    pytest.mark.skipif(not OWN, reason="Linux tells"),
    pytest.mark.usefixtures("every_processor"),
]


def tell_siblings(root: Path, siblings: dict[int, str]) -> None:
    for processor, names in siblings.items():
        folder = root / f"sys/devices/system/cpu/cpu{processor}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(names)


def limit(root: Path, quota: str) -> None:
    folder = root / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(quota)


@pytest.mark.parametrize(
    ("siblings", "cores"),
    [
        ({}, len(OWN)),
        ({processor: f"{processor}\n" for processor in OWN}, len(OWN)),
        (dict.fromkeys(OWN, "0-1023\n"), 1),
        ({processor: f"{processor // 2 * 2}-{processor // 2 * 2 + 1}\n" for processor in OWN},
         len({processor // 2 for processor in OWN})),
        (dict.fromkeys(OWN, ""), len(OWN)),
    ],
    ids=["untold", "one thread a core", "one core", "two threads a core", "empty"],
)  # fmt: skip
def test_threads_of_one_core_count_once(
    tmp_path: Path, siblings: dict[int, str], cores: int
) -> None:
    tell_siblings(tmp_path, siblings)
    assert available_processors(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "most"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("1000 100000\n", 1), ("max 100000\n", None),
     ("", None), ("garbage", None), ("a b", None), ("100000 0\n", None), ("-1 100000\n", 1)],
)  # fmt: skip
def test_processors_are_capped_by_the_control_group(
    tmp_path: Path, quota: str, most: int | None
) -> None:
    limit(tmp_path, quota)
    assert available_processors(tmp_path) == min(len(OWN), most or len(OWN))


def test_only_processors_of_the_process_count(tmp_path: Path) -> None:
    code = (
        f"import os; os.sched_setaffinity(0, {{{OWN[0]}}})\n"
        "from segmaformer.runtime.bindings.processors import available_processors\n"
        "print(available_processors())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "1"
