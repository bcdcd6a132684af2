"""The worker that an actor of Ray holds, without Ray."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.packages.samples import head_like, write_scan

import segmaformer
from segmaformer.cli.cases import Case
from segmaformer.cli.cohort import ray_actor
from segmaformer.cli.cohort.ray_actor import RayActor, Surroundings, state_of
from segmaformer.cli.cohort.worker import (
    Done,
    Idle,
    Message,
    NotOpened,
    Ready,
    Task,
    Unfit,
    Wanting,
)
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.runtime.package.parcel import Parcel
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.system import interruption, memory, unfinished

OPTIONS = PredictorOptions((), "onnxruntime", None, None, False, 1, None, ScanOptions(), True)
TASK = Task(OPTIONS, False, None)


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep to this process what an actor does to its own: folder, budget and interruption."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(ray_actor.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    yield
    memory.limit_default(None)


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings("here", segmaformer.__version__, {}, str(tmp_path), 1.0)


@pytest.fixture
def parcels(two_channel_package_path: Path) -> list[Parcel]:
    return [Parcel.pack(Package.open(two_channel_package_path))]


def case(folder: Path, name: str) -> Case:
    files = [folder / f"{name}_{channel:04}.nii.gz" for channel in range(2)]
    for file in files:
        write_scan(file, head_like((24, 20, 22)))
    return Case(tuple(files), folder / f"{name}.nii.gz")


def until(actor: RayActor, kind: type[Message]) -> list[Message]:
    found: list[Message] = []
    while not any(isinstance(each, kind) for each in found):
        found += actor.messages()
    return found


def test_an_actor_segments_scans_and_asks_for_the_next(
    tmp_path: Path, surroundings: Surroundings, parcels: list[Parcel]
) -> None:
    actor = RayActor(TASK, surroundings, parcels)
    assert isinstance(until(actor, Ready)[-1], Ready)
    first, second = case(tmp_path, "a"), case(tmp_path, "b")
    actor.give(first)
    until(actor, Wanting)
    actor.give(second)
    actor.give(None)
    done = [each for each in until(actor, Idle) if isinstance(each, Done)]
    assert [each.label_map for each in done] == [first.label_map, second.label_map]
    assert {each.result["exit_code"] for each in done} == {0}
    actor.give(None)


def test_the_package_lies_in_a_folder_of_the_user_that_goes_with_the_actor(
    tmp_path: Path, surroundings: Surroundings, parcels: list[Parcel]
) -> None:
    actor = RayActor(TASK, surroundings, parcels)
    until(actor, Ready)
    (folder,) = (each for each in (tmp_path / "temporary").iterdir() if each.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o700
    actor.give(None)
    actor._thread.join(10)
    assert not [*(tmp_path / "temporary").iterdir()]


@pytest.mark.parametrize("lack", ["scan", "change", "folder"])
def test_a_node_that_sees_other_files_is_unfit(
    tmp_path: Path, surroundings: Surroundings, lack: str
) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"scan")
    state = state_of(scan)
    assert state is not None
    if lack == "scan":
        scan.unlink()
    elif lack == "change":
        scan.write_bytes(b"another")
    else:
        surroundings = dataclasses.replace(surroundings, folder=str(tmp_path / "nowhere"))
    surroundings = dataclasses.replace(surroundings, landmarks={str(scan): state})
    (message,) = RayActor(TASK, surroundings, []).messages()
    assert isinstance(message, Unfit)
    assert ("nowhere" if lack == "folder" else "scan.nii.gz") in message.text


def test_another_version_is_not_opened(surroundings: Surroundings) -> None:
    surroundings = dataclasses.replace(surroundings, version="0.0.0")
    (message,) = RayActor(TASK, surroundings, []).messages()
    assert isinstance(message, NotOpened)
    assert "same version" in message.message


def test_a_defect_of_the_worker_is_raised_after_its_messages(
    surroundings: Surroundings, parcels: list[Parcel]
) -> None:
    actor = RayActor(TASK, surroundings, parcels)
    until(actor, Ready)
    actor.give("no case")  # type: ignore[arg-type]
    actor.give(None)
    with pytest.raises(AttributeError):
        until(actor, Idle)


def test_the_end_removes_what_is_unfinished(
    tmp_path: Path,
    surroundings: Surroundings,
    parcels: list[Parcel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(interruption, "request", ended.set)
    monkeypatch.setattr(unfinished, "discard_all", lambda: None)
    actor = RayActor(TASK, surroundings, parcels)
    until(actor, Ready)
    actor.end()
    assert ended.is_set()
    assert not actor._thread.is_alive()
    assert not [*(tmp_path / "temporary").iterdir()]
