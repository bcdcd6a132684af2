"""Arrivals become jobs, and jobs results, with stand-ins for network and destination."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from support.packages.samples import sample_manifest
from support.scans.ct_series import MARKS, SHAPE, write_ct_series

from segmaformer.runtime.errors import BackendError, InputError
from segmaformer.runtime.node.delivery import Outcome
from segmaformer.runtime.node.node import Node
from segmaformer.runtime.node.spool import Spool
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.dicom.scan import read_series

QUIET_SECONDS = 30.0


class Inbox:
    """Destination that keeps what it gets; `outcomes` are what it answers first."""

    def __init__(self, *outcomes: Outcome):
        self.outcomes = [*outcomes]
        self.got: list[bytes] = []

    def send(self, result: Path) -> Outcome:
        self.got.append(result.read_bytes())
        return self.outcomes.pop(0) if self.outcomes else Outcome.DELIVERED


class Bench:
    """A spool, and nodes that work on it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.spool = Spool(folder / "spool", most_files=1000, most_bytes=2**30)
        self.events: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def node(self, inbox: Inbox, **options: Any) -> Node:
        options.setdefault("quiet_seconds", QUIET_SECONDS)
        return Node(self.spool, self.segment, inbox, self.events.append, **options)

    def segment(self, images: Path) -> Segmentation:
        if self.error is not None:
            raise self.error
        volume = read_series(images)
        labels = np.zeros(volume.shape, np.uint8)
        labels[2:5, 3:6, 1] = 1
        return Segmentation(labels, volume, sample_manifest(), "cpu", {}, package_sha256="a" * 64)

    def receive(self, **changes: Any) -> None:
        series = write_ct_series(self.folder / f"ct{time.monotonic_ns()}", changes=changes)
        for path in sorted(series.iterdir()):
            assert self.spool.store(path.read_bytes())

    def wait(self) -> None:
        """Let the images that came be older than the quiet time."""
        for path in self.spool.arrivals():
            past = path.stat().st_mtime - QUIET_SECONDS
            os.utime(path, (past, past))

    def fates(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.spool.close()


def test_a_series_waits_for_quiet(bench: Bench) -> None:
    node, inbox = bench.node(inbox := Inbox()), inbox
    bench.receive()
    assert not node.step()
    bench.wait()
    assert node.step()
    assert (len(inbox.got), bench.fates()) == (1, ["delivered"])
    assert not node.step()
    assert bench.spool.arrivals() == bench.spool.jobs() == []


def test_series_are_told_apart(bench: Bench) -> None:
    inbox = Inbox()
    node = bench.node(inbox)
    for number in (1, 2):
        bench.receive(SeriesInstanceUID=f"1.2.3.{number}00")
    bench.wait()
    while node.step():
        pass
    assert len(inbox.got) == 2


def test_the_same_image_twice_counts_once(bench: Bench) -> None:
    inbox = Inbox()
    node = bench.node(inbox)
    bench.receive()
    bench.receive()
    bench.wait()
    node.step()
    assert len(inbox.got) == 1
    assert bench.events[0] == {"event": "dropped", "images": SHAPE[2]}


def test_images_that_come_late_are_no_series(bench: Bench) -> None:
    inbox = Inbox()
    node = bench.node(inbox)
    bench.receive()
    bench.wait()
    node.step()
    bench.receive()
    for path in bench.spool.arrivals()[2:]:
        bench.spool.drop(path)
    bench.wait()
    node.step()
    assert len(inbox.got) == 1
    assert bench.events[-1] == {"event": "late", "images": 2}


def test_a_series_that_is_sent_again_is_segmented_again(bench: Bench) -> None:
    inbox = Inbox()
    node = bench.node(inbox)
    for _ in range(2):
        bench.receive()
        bench.wait()
        node.step()
    assert len(inbox.got) == 2


def test_what_is_no_image_is_dropped(bench: Bench) -> None:
    node = bench.node(Inbox())
    bench.spool.store(b"nothing of DICOM")
    node.step()
    assert bench.spool.arrivals() == []
    assert node.counts["dropped"] == 1


def test_an_unreachable_destination_is_tried_again_with_the_same_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(Outcome.LATER)
    node = bench.node(inbox)
    bench.receive()
    bench.wait()
    assert node.step()
    assert not node.step()
    monkeypatch.setattr("segmaformer.runtime.node.node.time.monotonic", lambda: 1e9)
    assert node.step()
    assert inbox.got[0] == inbox.got[1]
    assert bench.fates() == ["waiting", "delivered"]


def test_a_result_that_was_not_sent_is_sent_by_the_next_node(bench: Bench) -> None:
    first = Inbox(Outcome.LATER)
    node = bench.node(first)
    bench.receive()
    bench.wait()
    node.step()
    bench.error = AssertionError("it was segmented once")  # type: ignore[assignment]
    second = Inbox()
    bench.node(second).step()
    assert second.got == first.got


def test_a_destination_without_label_maps_gets_binary_segmentations(bench: Bench) -> None:
    inbox = Inbox(Outcome.UNKNOWN_CLASS)
    node = bench.node(inbox, kind="labelmap")
    bench.receive()
    bench.wait()
    while node.step():
        pass
    assert [b"LABELMAP" in content for content in inbox.got] == [True, False]
    assert bench.fates() == ["binary from now on", "delivered"]


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (InputError("no volume of Quimby"), "refused"),
        (BackendError("broken"), "failed"),
        (KeyError("Quimby"), "failed"),
    ],
)
def test_an_error_ends_one_job_and_its_text_is_not_logged(
    bench: Bench, error: Exception, fate: str
) -> None:
    node = bench.node(Inbox())
    bench.error = error
    bench.receive()
    bench.wait()
    node.step()
    assert bench.fates() == [fate]
    assert bench.events[0]["reason"] == type(error).__name__
    assert "Quimby" not in json.dumps(bench.events)
    assert bench.spool.jobs() == []


def test_a_refused_result_is_set_aside(bench: Bench) -> None:
    node = bench.node(Inbox(Outcome.REFUSED))
    bench.receive()
    bench.wait()
    node.step()
    assert bench.fates() == ["not taken"]
    assert [*(bench.folder / "spool/failed").rglob("result.dcm")]


def test_files_of_a_watched_folder_are_moved_to_the_queue(bench: Bench) -> None:
    watched = write_ct_series(bench.folder / "watched")
    inbox = Inbox()
    node = bench.node(inbox, watched=watched)
    node.step()
    assert len([*watched.iterdir()]) == SHAPE[2]
    node.step()
    assert [*watched.iterdir()] == []
    bench.wait()
    node.step()
    assert len(inbox.got) == 1


def test_a_watched_file_that_cannot_be_read_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = write_ct_series(bench.folder / "watched")
    locked = watched / "locked"
    locked.touch()
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == locked:
            raise PermissionError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    node = bench.node(Inbox(), watched=watched)
    for _ in range(4):
        node.step()
    assert [*watched.iterdir()] == [locked]
    assert node.counts == {"received": SHAPE[2], "not stored": 1}


def test_events_hold_no_identity(bench: Bench) -> None:
    node = bench.node(Inbox())
    bench.receive()
    bench.wait()
    node.step()
    node.tell_counts()
    text = json.dumps(bench.events)
    assert [mark for mark in (*MARKS.values(), "1.2.3", "2020") if mark in text] == []
