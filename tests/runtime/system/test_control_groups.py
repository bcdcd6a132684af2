from __future__ import annotations

import math
from pathlib import Path

import pytest

from segmaformer.runtime.system.control_groups import available_to_control_groups

GIB = 1 << 30
NONE_IN_VERSION_1 = 9223372036854771712
V2 = "30 23 0:26 {group} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 25 0:33 {group} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
OTHER = "35 25 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"


def make_tree(root: Path, membership: str, mounts: list[str]) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    (root / "proc/self/mountinfo").write_text("\n".join([OTHER, *mounts]) + "\n")


def make_group(folder: Path, files: dict[str, object], **statistics: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")
    lines = [f"{name} {value}\n" for name, value in statistics.items()]
    (folder / "memory.stat").write_text("".join(lines))


def in_version_2(root: Path, group: str = "/", shown: str = "/") -> Path:
    make_tree(root, f"0::{group}\n", [V2.format(group=shown)])
    return root / "sys/fs/cgroup"


def in_version_1(root: Path, group: str = "/", shown: str = "/") -> Path:
    make_tree(root, f"4:cpu,cpuacct:/elsewhere\n3:memory:{group}\n", [V1.format(group=shown)])
    return root / "sys/fs/cgroup/memory"


def test_page_cache_is_not_used_memory(tmp_path: Path) -> None:
    make_group(
        in_version_2(tmp_path),
        {"max": 8 * GIB, "high": "max", "current": 7 * GIB},
        active_file=2 * GIB,
        inactive_file=3 * GIB,
        slab_reclaimable=GIB,
        anon=GIB,
    )
    assert available_to_control_groups(tmp_path) == 7 * GIB


def test_version_1_has_names_of_its_own(tmp_path: Path) -> None:
    make_group(
        in_version_1(tmp_path, "/docker/1", "/docker/1"),
        {"limit_in_bytes": 4 * GIB, "usage_in_bytes": 3 * GIB},
        active_file=0,
        total_active_file=GIB,
        total_inactive_file=GIB,
    )
    assert available_to_control_groups(tmp_path) == 3 * GIB


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    top = in_version_2(tmp_path, "/kubepods/pod1/container")
    make_group(top / "kubepods", {"max": "max", "current": 90 * GIB})
    make_group(top / "kubepods/pod1", {"max": 3 * GIB, "current": 2 * GIB})
    make_group(top / "kubepods/pod1/container", {"max": 8 * GIB, "current": GIB})
    assert available_to_control_groups(tmp_path) == GIB


def test_high_throttles_before_max_kills(tmp_path: Path) -> None:
    make_group(in_version_2(tmp_path), {"max": 8 * GIB, "high": 4 * GIB, "current": GIB})
    assert available_to_control_groups(tmp_path) == 3 * GIB


def test_a_container_sees_its_own_group_as_the_mount(tmp_path: Path) -> None:
    top = in_version_2(tmp_path, "/system.slice/docker-1.scope", "/system.slice/docker-1.scope")
    make_group(top, {"max": 2 * GIB, "current": GIB})
    assert available_to_control_groups(tmp_path) == GIB


def test_both_versions_may_be_mounted(tmp_path: Path) -> None:
    make_tree(tmp_path, "5:memory:/job\n0::/user\n", [V1.format(group="/"), V2.format(group="/")])
    job = tmp_path / "sys/fs/cgroup/memory/job"
    make_group(job, {"limit_in_bytes": 2 * GIB, "usage_in_bytes": GIB})
    assert available_to_control_groups(tmp_path) == GIB


@pytest.mark.parametrize("limit", ["max", NONE_IN_VERSION_1])
def test_no_limit_is_infinite(tmp_path: Path, limit: object) -> None:
    if limit == "max":
        make_group(in_version_2(tmp_path), {"max": limit, "current": GIB})
    else:
        make_group(in_version_1(tmp_path), {"limit_in_bytes": limit, "usage_in_bytes": GIB})
    assert math.isinf(available_to_control_groups(tmp_path))


def test_more_use_than_the_limit_leaves_nothing(tmp_path: Path) -> None:
    make_group(in_version_2(tmp_path), {"max": GIB, "current": 2 * GIB})
    assert available_to_control_groups(tmp_path) == 0


def test_a_system_without_groups_has_no_limit(tmp_path: Path) -> None:
    assert math.isinf(available_to_control_groups(tmp_path))
