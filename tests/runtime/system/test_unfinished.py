from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segmaformer.runtime.package.writer import staged_package
from segmaformer.runtime.system import unfinished
from segmaformer.runtime.system.unfinished import (
    create_file,
    create_folder,
    discard,
    forget,
    name_beside,
    remove_abandoned,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock")

WRITER = """
import sys
from pathlib import Path
from segmaformer.runtime.system.atomic import atomic_file
from segmaformer.runtime.package.writer import staged_package

with staged_package(Path("other.sgmf"), overwrite=False) as staging, atomic_file("labels") as file:
    (staging / "fp32.onnx").touch()
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.read()
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


def has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a process that writes a package and a file, until its input ends."""
    started = []

    def begin(*prefix: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("prefix", [[], NAMESPACE], ids=["here", "with process numbers of its own"])
def test_what_is_being_written_stays_and_what_a_killed_process_left_goes(
    tmp_path: Path, begin: Begin, prefix: list[str]
) -> None:
    if prefix and not has_namespaces():
        pytest.skip("this system lends no namespaces")
    process = begin(*prefix)
    (tmp_path / ".sgmf-notes.txt").touch()
    assert len(names(tmp_path)) == 4  # a folder and its lock, a file, the notes
    assert remove_abandoned(tmp_path) == 0
    assert len(names(tmp_path)) == 4
    process.kill()
    process.communicate()  # until all that hold its output are gone
    assert remove_abandoned(tmp_path) == 2
    assert names(tmp_path) == [".sgmf-notes.txt"]


def test_a_process_that_ends_well_leaves_what_it_wrote(tmp_path: Path, begin: Begin) -> None:
    process = begin()
    process.communicate("")
    assert process.returncode == 0
    assert names(tmp_path) == ["labels", "other.sgmf"]


def test_what_other_hosts_write_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_beside(tmp_path / "labels").touch()
    monkeypatch.setattr(unfinished, "_HOST", "0badcafe")
    assert remove_abandoned(tmp_path) == 0
    monkeypatch.undo()
    assert remove_abandoned(tmp_path) == 1


def test_where_no_locks_are_kept_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_beside(tmp_path / "labels").touch()
    monkeypatch.setattr(unfinished, "_lock", lambda _descriptor: None)
    assert remove_abandoned(tmp_path) == 0
    with staged_package(tmp_path / "some.sgmf", overwrite=False):
        pass
    assert len(names(tmp_path)) == 2


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    name_beside(tmp_path / "some.sgmf").symlink_to("precious")
    assert remove_abandoned(tmp_path) == 1
    assert names(tmp_path) == ["precious"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")
def test_what_others_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_beside(tmp_path / "some.sgmf").mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert remove_abandoned(tmp_path) == 0
    assert len(names(tmp_path)) == 1


def test_a_file_taken_for_abandoned_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = unfinished._lock
    taken: list[Path] = []

    def remove_first(descriptor: int) -> bool | None:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        return lock(descriptor)

    monkeypatch.setattr(unfinished, "_lock", remove_first)
    path, descriptor = create_file(tmp_path / "labels")
    os.close(descriptor)
    assert path not in taken
    assert [*tmp_path.iterdir()] == [path]
    discard(path)


def test_a_process_that_ends_at_once_leaves_only_what_is_finished(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from segmaformer.runtime.system.atomic import atomic_file\n"
        "from segmaformer.runtime.package.writer import staged_package\n"
        "from segmaformer.runtime.system.unfinished import discard_all\n"
        "with atomic_file('done'): pass\n"
        "with staged_package(__import__('pathlib').Path('a.sgmf'), overwrite=False) as staging:\n"
        "    (staging / 'fp32.onnx').touch()\n"
        "    with atomic_file('half'):\n"
        "        discard_all()\n"
        "        os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert names(tmp_path) == ["done"]


def test_what_is_forgotten_or_discarded_is_nobodys(tmp_path: Path) -> None:
    before = dict(unfinished._own)
    file, descriptor = create_file(tmp_path / "labels")
    folder, lock = create_folder(tmp_path / "some.sgmf")
    folder.rename(tmp_path / "some.sgmf")
    forget(folder)
    discard(file)
    os.close(descriptor)
    os.close(lock)
    assert names(tmp_path) == ["some.sgmf"]
    assert unfinished._own == before
