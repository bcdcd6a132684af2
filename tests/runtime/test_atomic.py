from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from segmaformer.runtime.atomic import atomic_path


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


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "written"):
        pass
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


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
