from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.packages.samples import sample_manifest

from segmaformer.runtime.package import writer as package_writer
from segmaformer.runtime.package.manifest import FileRecord
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import finish_replacing, staged_package, write_files

FILES = {"fp32.onnx": b"network", "card.md": b"# card\n"}


def write(target: Path, *, overwrite: bool = False, network: bytes = b"network") -> None:
    with staged_package(target, overwrite=overwrite) as staging:
        write_files(staging, sample_manifest(), {**FILES, "fp32.onnx": network})


def tree(folder: Path) -> dict[str, bytes | None]:
    """List every path below `folder`, hidden ones included, and the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_the_manifest_lists_size_and_digest_of_every_file(tmp_path: Path) -> None:
    manifest = write_files(tmp_path, sample_manifest(), FILES)
    assert manifest.files == {
        name: FileRecord(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in FILES.items()
    }
    assert Package.open(tmp_path) == Package(tmp_path, manifest)


def test_a_package_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    with staged_package(target, overwrite=False) as staging:
        assert staging.parent == tmp_path
        assert staging.name.startswith(".")
        write_files(staging, sample_manifest(), FILES)
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sample.sgmf"]
    assert Package.open(target).read("fp32.onnx") == b"network"


def test_others_may_read_a_package_as_far_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "sample.sgmf")
    finally:
        os.umask(before)
    assert (tmp_path / "sample.sgmf").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "sample.sgmf" / "card.md").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [False, True])
def test_a_block_that_fails_changes_nothing(
    tmp_path: Path, error: type[BaseException], existing: bool
) -> None:
    target = tmp_path / "sample.sgmf"
    if existing:
        write(target)
    before = tree(tmp_path)

    def write_half() -> None:
        with staged_package(target, overwrite=True) as staging:
            write_files(staging, sample_manifest(), {"fp32.onnx": b"half"})
            raise error

    with pytest.raises(error):
        write_half()
    assert tree(tmp_path) == before


def test_an_existing_package_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write(target, network=b"new")
    assert tree(tmp_path) == before


def test_an_existing_package_is_replaced_where_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    write(target, overwrite=True, network=b"new")
    assert Package.open(target).read("fp32.onnx") == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["sample.sgmf"]


def test_a_damaged_network_does_not_keep_a_package_from_being_replaced(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    (target / "fp32.onnx").write_bytes(b"damaged")
    write(target, overwrite=True)
    Package.open(target)


def test_a_failure_to_put_the_new_package_in_place_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    before = tree(tmp_path)
    rename = Path.rename

    def fails_for_the_staging_folder(self: Path, to: Path) -> Path:
        if self.name.startswith(".sgmf-"):
            raise OSError("disk on fire")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fails_for_the_staging_folder)
    with pytest.raises(OSError, match="disk on fire"):
        write(target, overwrite=True, network=b"new")
    assert tree(tmp_path) == before


KILLED = """
import os, signal, sys
from pathlib import Path

from segmaformer.runtime.package.writer import staged_package

target, place = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename

def killed_halfway(self, to):
    if place == "swap" and self != target:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, to)

Path.rename = killed_halfway
with staged_package(target, overwrite=True) as staging:
    (staging / "fp32.onnx").write_bytes(b"half")
    if place == "block":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(target: Path, place: str) -> None:
    """Replace `target` in a process that is killed in the block, or before the new one's rename."""
    command = [sys.executable, "-c", KILLED, str(target), place]
    assert subprocess.run(command, cwd=target.parent).returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("place", ["block", "swap"])
def test_what_a_killed_process_left_is_gone_after_the_next_export(
    tmp_path: Path, place: str
) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    kill_a_writer(target, place)
    assert (target.exists(), len([*tmp_path.iterdir()])) == (place == "block", 3)
    write(target, overwrite=True, network=b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["sample.sgmf"]
    assert Package.open(target).read("fp32.onnx") == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_package_that_was_moved_aside_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    before = tree(tmp_path)
    kill_a_writer(target, "swap")
    write(tmp_path / "other.sgmf")
    assert not target.exists()
    with pytest.raises(FileExistsError, match="give --overwrite"):
        write(target)
    shutil.rmtree(tmp_path / "other.sgmf")
    assert tree(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_package_that_was_moved_aside_can_be_read_before_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    write(target)
    before = tree(tmp_path)
    kill_a_writer(target, "swap")
    finish_replacing(target)
    assert tree(tmp_path) == before
    finish_replacing(target)
    assert tree(tmp_path) == before


def test_what_others_are_writing_stays(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"
    with staged_package(target, overwrite=False) as staging:
        write_files(staging, sample_manifest(), FILES)
        write(tmp_path / "other.sgmf")
    assert Package.open(target)


def a_file(target: Path) -> None:
    target.write_text("precious")


def a_folder(target: Path) -> None:
    target.mkdir()
    (target / "thesis.tex").write_text("precious")


def an_empty_folder(target: Path) -> None:
    target.mkdir()


def a_folder_with_another_manifest(target: Path) -> None:
    a_folder(target)
    (target / "manifest.json").write_text('{"name": "a web page"}')


def a_package_with_notes(target: Path) -> None:
    write(target)
    (target / "notes.txt").write_text("precious")


def a_package_with_a_folder(target: Path) -> None:
    write(target)
    (target / "scans").mkdir()


def a_package_with_a_damaged_manifest(target: Path) -> None:
    write(target)
    (target / "manifest.json").write_bytes((target / "manifest.json").read_bytes()[:-5])


def a_link_to_a_package(target: Path) -> None:
    write(target.with_name("elsewhere.sgmf"))
    target.symlink_to("elsewhere.sgmf")


def a_link_to_nowhere(target: Path) -> None:
    target.symlink_to("nowhere")


@pytest.mark.parametrize(
    "occupy",
    [
        a_file,
        a_folder,
        an_empty_folder,
        a_folder_with_another_manifest,
        a_package_with_notes,
        a_package_with_a_folder,
        a_package_with_a_damaged_manifest,
        a_link_to_a_package,
        a_link_to_nowhere,
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_more_than_a_package_is_never_removed(
    tmp_path: Path, occupy: Callable[[Path], None], overwrite: bool
) -> None:
    target = tmp_path / "sample.sgmf"
    occupy(target)
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="with -o"):
        write(target, overwrite=overwrite)
    assert tree(tmp_path) == before


def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "sample.sgmf"

    def write_slowly() -> None:
        with staged_package(target, overwrite=True) as staging:
            write_files(staging, sample_manifest(), FILES)
            a_folder(target)

    with pytest.raises(FileExistsError):
        write_slowly()
    assert tree(tmp_path) == {"sample.sgmf": None, "sample.sgmf/thesis.tex": b"precious"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none; create it first"):
        write(tmp_path / "none" / "sample.sgmf")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write(tmp_path / "file" / "sample.sgmf")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=r"cannot write .*: Permission denied in"):
            write(tmp_path / "sample.sgmf")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_takes_no_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(package_writer.Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cannot write .*: Read-only file system in"):
        write(tmp_path / "sample.sgmf")
    assert tree(tmp_path) == {}
