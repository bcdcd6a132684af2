"""Worker in an actor of Ray: calls bring its scans and take its messages.

This module is imported on every node. The loop of the worker runs on a thread of its own.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import segmaformer
from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.worker import Message, NotOpened, Task, Unfit, work
from segmaformer.cli.exit_codes import FAILED
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.package.parcel import Parcel
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.progress import Report
from segmaformer.runtime.system import interruption, memory, unfinished

_GRACE_SECONDS = 1.0
State = tuple[int, int]
"""Size of a file in bytes, and the time of its last change in ns."""


@dataclass(frozen=True)
class Surroundings:
    """Facts that an actor must find on its node.

    Attributes
    ----------
    node
        Address of the node, for messages.
    version
        Version of segmaformer.
    landmarks
        State of some files that the command sees.
    folder
        Current folder of the command, to which paths are relative.
    memory_share
        Part of the node's default memory budget that is the actor's.
    """

    node: str
    version: str
    landmarks: Mapping[str, State]
    folder: str
    memory_share: float


class RayActor:
    """Worker whose loop runs on a thread.

    Parameters
    ----------
    task
        Work, apart from the scans.
    surroundings
        What it must find on its node.
    parcels
        Packages to open.
    """

    def __init__(self, task: Task, surroundings: Surroundings, parcels: Sequence[Parcel]):
        self._cases = queue.SimpleQueue[Case | None]()
        self._said = queue.SimpleQueue[Message | BaseException]()
        self._thread = threading.Thread(
            target=self._run, args=(task, surroundings, parcels), name="worker", daemon=True
        )
        self._thread.start()

    def give(self, case: Case | None) -> None:
        """Take a scan; None if there is none to begin."""
        self._cases.put(case)

    def messages(self) -> list[Message]:
        """Wait for messages of the worker, and return all that there are.

        An error that ended it is raised after the last one.
        """
        found = [self._said.get()]
        with suppress(queue.Empty):
            while True:
                found.append(self._said.get_nowait())
        messages = [each for each in found if not isinstance(each, BaseException)]
        errors = [each for each in found if isinstance(each, BaseException)]
        if errors and not messages:
            raise errors[0]
        for error in errors:
            self._said.put(error)
        return messages

    def end(self) -> None:
        """End the work at the next safe place, and remove what is unfinished."""
        interruption.request()
        self._cases.put(None)
        self._thread.join(_GRACE_SECONDS)
        unfinished.discard_all()

    def _run(self, task: Task, surroundings: Surroundings, parcels: Sequence[Parcel]) -> None:
        try:
            complaint = _complaint(surroundings)
            if complaint is not None:
                self._said.put(complaint)
                return
            memory.limit_default(int(surroundings.memory_share * memory.default_budget_bytes()))
            with private_folder(Path(tempfile.gettempdir())) as folder:

                def open_predictor(say: Report) -> Predictor | Ensemble:
                    packages = [each.unpack(folder / f"{i}") for i, each in enumerate(parcels)]
                    return task.options.open(packages, say)

                work(task, self._cases.get, self._said.put, open_predictor)
        except BaseException as error:  # Ray shows it to the command
            self._said.put(error)


def state_of(path: str | Path) -> State | None:
    """Return the state of a file, or None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _complaint(surroundings: Surroundings) -> Message | None:
    """Return the message of a node that cannot serve, or None if this one can."""
    if segmaformer.__version__ != surroundings.version:
        return NotOpened(
            f"node {surroundings.node} has segmaformer {segmaformer.__version__}, and the command "
            f"{surroundings.version}; install the same version on all nodes",
            FAILED,
        )
    missing = [path for path, state in surroundings.landmarks.items() if state_of(path) != state]
    try:
        os.chdir(surroundings.folder)
    except OSError:
        missing.append(surroundings.folder)
    if missing:
        return Unfit(
            f"node {surroundings.node} does not see {missing[0]} as this machine does, so it "
            "segments nothing; share that folder with it"
        )
    return None


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """Make a folder that only this user can read; the next one there removes a killed process's."""
    unfinished.remove_abandoned(parent)
    folder, lock = unfinished.create_folder(parent / "folder")
    try:
        folder.chmod(0o700)
        yield folder
    finally:
        unfinished.discard(folder)
        os.close(lock)
