from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segmaformer.runtime.atomic import _HOST, atomic_path, remove_abandoned


def test_the_target_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "case.01.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.endswith(".01.nii.gz")
        temporary.write_bytes(b"labels")
        assert not target.exists()
    assert target.read_bytes() == b"labels"
    assert [*tmp_path.iterdir()] == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "labels.nii"
    target.write_bytes(b"old")

    def write_and_fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the n")
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [target]


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    target = tmp_path / "labels.nii"

    def write(code: int) -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the n")
            raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=r"cannot write .*labels.nii: No space left.*make room"):
        write(errno.ENOSPC)
    with pytest.raises(OSError, match=r"^\[Errno 5\]"):
        write(errno.EIO)
    assert not [*tmp_path.iterdir()]


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "written"):
        pass
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.fixture
def ended() -> int:
    """Number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_what_killed_processes_left_is_removed(tmp_path: Path, ended: int) -> None:
    gone = [f".sgmf-{_HOST}-{ended}-0a1b2c.nii.gz", f".sgmf-{_HOST}-{ended}-3d4e5f.sgmf"]
    stays = [
        f".sgmf-{_HOST}-{os.getpid()}-0a1b2c.nii.gz",
        f".sgmf-{_HOST}2-{ended}-0a1b2c.nii.gz",
        f".sgmf-{_HOST}-notes.txt",
        f".sgmf.old-0123-{_HOST}-{ended}-0a1b2c.sgmf",
        "sample.sgmf",
    ]
    for name in (*gone, *stays):
        (tmp_path / name).mkdir() if name.endswith(".sgmf") else (tmp_path / name).touch()
    (tmp_path / gone[1] / "fp32.onnx").touch()
    assert remove_abandoned(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == set(stays)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path, ended: int) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / f".sgmf-{_HOST}-{ended}-0a1b2c.sgmf").symlink_to("precious")
    assert remove_abandoned(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")
def test_what_others_own_stays(tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f".sgmf-{_HOST}-{ended}-0a1b2c.sgmf").mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert remove_abandoned(tmp_path) == 0
    assert len([*tmp_path.iterdir()]) == 1


def enter(target: Path) -> None:
    with atomic_path(target):
        pytest.fail("the block must not run")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing; create it"):
        enter(tmp_path / "missing" / "labels.nii")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is not a folder"):
        enter(tmp_path / "file" / "labels.nii")


def test_a_folder_in_place_of_the_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        enter(tmp_path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="choose another folder"):
        enter(tmp_path / "labels.nii")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=f"{os.strerror(code)} in .*change its permissions"):
        enter(tmp_path / "labels.nii")
