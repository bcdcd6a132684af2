from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from segmaformer.runtime.system import atomic
from segmaformer.runtime.system.atomic import atomic_file, check_writable, unfinished_file
from segmaformer.runtime.system.digest import sha256_of


def test_the_target_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "case.01.nii.gz"
    with atomic_file(target) as stream:
        stream.write(b"labels")
        assert not target.exists()
    assert target.read_bytes() == b"labels"
    assert [*tmp_path.iterdir()] == [target]


def test_several_files_can_be_begun_and_finished_together(tmp_path: Path) -> None:
    first, second = tmp_path / "labels", tmp_path / "record"
    with unfinished_file(first) as begun, unfinished_file(second) as record:
        with atomic_file(begun) as stream:
            stream.write(b"abc")
        assert os.fspath(begun) == str(first)
        record.stream.write(sha256_of(begun).encode())
        begun.stream.write(b"d")
        assert not first.exists()
    assert first.read_bytes() == b"abcd"
    assert second.read_text().startswith("ba7816bf8f01cfea")


def replace_what_is_begun(folder: Path, elsewhere: Path) -> None:
    """Exchange a file, as another user of the folder could."""
    (begun,) = folder.glob(".sgmf-*")
    begun.rename(elsewhere / "moved")
    begun.symlink_to(elsewhere / "precious")


def test_a_link_put_in_place_of_the_unfinished_file_is_not_written_through(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "shared", tmp_path / "mine"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    with atomic_file(folder / "labels.nii") as stream:
        replace_what_is_begun(folder, elsewhere)
        stream.write(b"labels")
    assert (elsewhere / "precious").read_text() == "precious"
    assert (elsewhere / "moved").read_bytes() == b"labels"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "labels.nii"
    target.write_bytes(b"old")

    def write_and_fail() -> None:
        with atomic_file(target) as stream:
            stream.write(b"half of the n")
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [target]


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    target = tmp_path / "labels.nii"

    def write(code: int) -> None:
        with atomic_file(target) as stream:
            stream.write(b"half of the n")
            raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=r"cannot write .*labels.nii: No space left.*make room"):
        write(errno.ENOSPC)
    with pytest.raises(OSError, match=r"^\[Errno 5\]"):
        write(errno.EIO)
    assert not [*tmp_path.iterdir()]


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "written"):
        pass
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def enter(target: Path) -> None:
    with atomic_file(target):
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


@pytest.mark.parametrize("length", [255, 256])
def test_a_long_name_is_taken_or_refused_by_that_name(tmp_path: Path, length: int) -> None:
    target = tmp_path / f"{'n' * (length - 4)}.nii"
    if length == 255:
        with atomic_file(target) as stream:
            stream.write(b"labels")
        assert target.read_bytes() == b"labels"
        return
    with pytest.raises(OSError, match=r"cannot write .*/n+\.nii: File name too long; give it"):
        check_writable(target)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_target: Path) -> tuple[Path, int]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic, "create_file", refuse)
    with pytest.raises(PermissionError, match=f"{os.strerror(code)} in .*change its permissions"):
        enter(tmp_path / "labels.nii")


def test_a_full_disk_is_named_with_the_file_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_target: Path) -> tuple[Path, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".sgmf-0123")

    monkeypatch.setattr(atomic, "create_file", refuse)
    with pytest.raises(OSError, match=r"^cannot write .*labels.nii: No space left.*make room"):
        check_writable(tmp_path / "labels.nii")
