from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from segmaformer.runtime.errors import EngineError
from segmaformer.runtime.system.private_folder import PrivateFolder

STRANGER = 54321


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "above" / "engines"


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Pretend that a path belongs to another user."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    return give


def test_what_is_missing_is_created_for_the_user_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        folder = PrivateFolder.open(path)
    finally:
        os.umask(old)
    assert folder.path == path.resolve()
    assert [stat.S_IMODE(made.stat().st_mode) for made in (path, path.parent)] == [0o700, 0o700]


def test_a_file_comes_back_and_only_the_user_can_read_it(path: Path) -> None:
    folder = PrivateFolder.open(path)
    place = folder.write("a.engine", b"content")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert folder.read("a.engine", limit=100) == b"content"
    assert folder.read("a.engine", limit=3) == b"cont"
    assert folder.names(".engine") == ["a.engine"]
    with pytest.raises(FileNotFoundError):
        folder.read("b.engine", limit=1)


def test_a_new_file_does_not_replace_what_is_there(path: Path) -> None:
    folder = PrivateFolder.open(path)
    folder.write_new("key", b"first")
    folder.write_new("key", b"second")
    assert folder.read("key", limit=100, secret=True) == b"first"
    assert os.listdir(path) == ["key"]


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("level", ["itself", "above"])
def test_a_folder_that_others_can_write_is_refused(path: Path, mode: int, level: str) -> None:
    folder = PrivateFolder.open(path)
    folder.write("a", b"content")
    place = path if level == "itself" else path.parent
    place.chmod(mode)
    if level == "above" and mode & stat.S_ISVTX:
        assert folder.read("a", limit=10) == b"content"  # as in /tmp
        return
    with pytest.raises(EngineError, match=r"can be written by others .*chmod go-w"):
        PrivateFolder.open(path)
    with pytest.raises(EngineError, match="can be written by others"):
        folder.check()


def test_every_folder_above_is_looked_at(path: Path) -> None:
    folder = PrivateFolder.open(path / "deep" / "deeper")
    path.parent.chmod(0o770)
    with pytest.raises(EngineError, match="above can be written by others"):
        folder.check()


@pytest.mark.parametrize("level", ["itself", "above"])
def test_a_folder_of_someone_else_is_refused(
    path: Path, level: str, give_away: Callable[[Path], None]
) -> None:
    folder = PrivateFolder.open(path)
    give_away(path if level == "itself" else path.parent)
    with pytest.raises(EngineError, match=r"belongs to user \d+; expected user \d+ or root"):
        folder.check()


def test_a_file_of_someone_else_is_refused(path: Path, give_away: Callable[[Path], None]) -> None:
    folder = PrivateFolder.open(path)
    give_away(folder.write("a", b"content"))
    with pytest.raises(EngineError, match="belongs to user"):
        folder.read("a", limit=10)


def test_a_file_that_others_can_write_is_refused(path: Path) -> None:
    folder = PrivateFolder.open(path)
    folder.write("a", b"content").chmod(0o620)
    with pytest.raises(EngineError, match="can be written by others"):
        folder.read("a", limit=10)


def test_a_secret_that_others_can_read_is_refused(path: Path) -> None:
    folder = PrivateFolder.open(path)
    folder.write("key", b"content").chmod(0o640)
    assert folder.read("key", limit=10) == b"content"
    with pytest.raises(EngineError, match="keeps no secret"):
        folder.read("key", limit=10, secret=True)


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(path: Path, kind: str) -> None:
    folder = PrivateFolder.open(path)
    place = path / "a"
    if kind == "fifo":
        os.mkfifo(place, 0o600)
    elif kind == "folder":
        place.mkdir()
    else:
        target = path / "b"
        if kind == "link":
            folder.write("b", b"content")
        place.symlink_to(target)
    with pytest.raises(EngineError, match=r"link|not a regular file"):
        folder.read("a", limit=10)


def test_a_folder_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    PrivateFolder.open(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(EngineError, match="is a link; name the folder that it leads to"):
        PrivateFolder.open(link)


def test_links_above_are_resolved_before_the_check(path: Path, tmp_path: Path) -> None:
    PrivateFolder.open(path)
    link = tmp_path / "link"
    link.symlink_to(path.parent)
    assert PrivateFolder.open(link / "engines").path == path.resolve()
    path.parent.chmod(0o777)
    with pytest.raises(EngineError, match="above can be written by others"):
        PrivateFolder.open(link / "engines")


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("no folder")
    with pytest.raises(OSError, match=r"cannot create .*; set SGMF_CACHE"):
        PrivateFolder.open(tmp_path / "engines")


def test_a_system_without_owners_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "geteuid")
    with pytest.raises(EngineError, match="POSIX"):
        PrivateFolder.open(path)
