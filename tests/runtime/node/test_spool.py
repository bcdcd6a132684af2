from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from segmaformer.runtime.node.spool import Spool, SpoolError


def open_spool(folder: Path, *, most_files: int = 100, most_bytes: int = 1000) -> Spool:
    return Spool(folder, most_files=most_files, most_bytes=most_bytes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = open_spool(folder)
    yield spool
    spool.close()


def test_the_folder_is_for_its_user_alone(spool: Spool, folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_reach_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with pytest.raises(SpoolError, match="others can reach"):
        open_spool(folder)


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "there")
    with pytest.raises(SpoolError, match="is a link"):
        open_spool(folder)


def test_two_nodes_cannot_share_a_folder(spool: Spool, folder: Path) -> None:
    with pytest.raises(SpoolError, match="another node uses"):
        open_spool(folder)


def test_images_are_kept_as_they_came_under_counted_names(spool: Spool) -> None:
    assert spool.store(b"one")
    assert spool.store(b"two")
    first, second = spool.arrivals()
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    assert (first.name, second.name) == ("0000000001.dcm", "0000000002.dcm")


def test_the_number_of_files_is_limited_until_a_job_ends(folder: Path) -> None:
    spool = open_spool(folder, most_files=2)
    assert [spool.store(b"x") for _ in range(3)] == [True, True, False]
    job = spool.make_job(spool.arrivals())
    assert not spool.store(b"x")
    spool.finish(job)
    assert spool.store(b"x")


def test_the_size_is_limited_across_a_restart(folder: Path) -> None:
    spool = open_spool(folder, most_bytes=10)
    assert spool.store(b"x" * 8)
    assert not spool.store(b"x" * 3)
    spool.close()
    spool = open_spool(folder, most_bytes=10)
    assert not spool.store(b"x" * 3)
    assert spool.store(b"x" * 2)


def test_a_job_holds_its_images_and_ends_without_a_trace(spool: Spool, folder: Path) -> None:
    spool.store(b"one")
    job = spool.make_job(spool.arrivals())
    assert spool.arrivals() == []
    assert [path.read_bytes() for path in job.images.iterdir()] == [b"one"]
    assert spool.jobs() == [job]
    spool.finish(job)
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "lock"]


def test_a_failed_job_is_kept_and_not_tried_again(spool: Spool, folder: Path) -> None:
    spool.store(b"one")
    spool.set_aside(spool.make_job(spool.arrivals()))
    assert spool.jobs() == []
    assert [path.read_bytes() for path in (folder / "failed").rglob("*.dcm")] == [b"one"]


def test_what_a_killed_node_had_begun_is_finished_or_undone(folder: Path) -> None:
    spool = open_spool(folder)
    for content in (b"one", b"two", b"three"):
        spool.store(content)
    done = spool.make_job(spool.arrivals()[:1])
    os.rename(done.folder, folder / "jobs" / f".{done.name}.gone")
    begun = spool.make_job(spool.arrivals()[:1])
    os.rename(begun.folder, folder / "jobs" / f".{begun.name}.part")
    (folder / "incoming" / ".0000000099.part").write_bytes(b"half")
    spool.close()
    spool = open_spool(folder)
    assert [path.read_bytes() for path in spool.arrivals()] == [b"two", b"three"]
    assert spool.jobs() == []
    assert not [*folder.rglob(".*")]


def test_numbers_go_on_after_a_restart(folder: Path) -> None:
    spool = open_spool(folder)
    spool.store(b"one")
    spool.close()
    spool = open_spool(folder)
    spool.store(b"two")
    assert [path.name for path in spool.arrivals()] == ["0000000001.dcm", "0000000002.dcm"]


def test_a_series_is_complete_again_with_all_of_its_images(spool: Spool, folder: Path) -> None:
    assert spool.completes("1.2.3", ["1.2.3.1"])
    spool.note_taken("1.2.3", ["1.2.3.1", "1.2.3.2"])
    assert not spool.completes("1.2.3", ["1.2.3.2"])
    assert not spool.completes("1.2.3", ["1.2.3.3", "1.2.3.4", "1.2.3.5"])
    assert spool.completes("1.2.3", ["1.2.3.1", "1.2.3.2", "1.2.3.3"])
    texts = [str(path) for path in folder.rglob("*")]
    texts += [path.read_text() for path in (folder / "taken").iterdir()]
    assert "1.2.3" not in "".join(texts)


def test_series_are_forgotten_after_a_week(folder: Path) -> None:
    spool = open_spool(folder)
    spool.note_taken("1.2.3", ["1.2.3.1"])
    (path,) = (folder / "taken").iterdir()
    week_ago = path.stat().st_mtime - 8 * 24 * 3600
    os.utime(path, (week_ago, week_ago))
    spool.close()
    assert open_spool(folder).completes("1.2.3", ["1.2.3.9"])
