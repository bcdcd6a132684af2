"""Workers that are actors of Ray, on this machine or on the nodes of a cluster."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmaformer
from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.host import RAY_HERE, Link
from segmaformer.cli.cohort.ray_actor import (
    RayActor,
    State,
    Surroundings,
    private_folder,
    state_of,
)
from segmaformer.cli.cohort.worker import Message, Task
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.package.parcel import Parcel
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system import unfinished
from segmaformer.runtime.system.extras import require_extra
from segmaformer.runtime.system.memory import MIB

_CALLS_AT_ONCE = 3
_MEMORY_SHARE = 0.8
_SMALLEST_STORE_BYTES = 128 * MIB
_MOST_LANDMARKS = 16
_TEMPORARY = Path("/tmp")
"""Folder whose path is short, as paths of sockets must be."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: loopback alone
    "RAY_AUTH_MODE": "token",  # other users of the machine reach loopback too
    "RAY_memory_monitor_refresh_ms": "0",  # the system ends what has too much, as ever
}
"""Environment of a Ray on this machine."""


@dataclass(frozen=True)
class _Node:
    """Node of the cluster: its address, and all that it has."""

    id: str
    address: str
    processors: int
    gpus: int
    memory_bytes: float


class RayLink:
    """Connection to an actor."""

    def __init__(self, actor: Any, node: _Node):
        self._actor, self.node = actor, node
        self.said = actor.messages.remote()
        self.is_open = True
        self._is_heard = False
        self._how = ""
        self._ended: Any = None

    def give(self, case: Case | None) -> None:
        """Send a scan; an actor that is gone is found by its messages."""
        self._actor.give.remote(case)

    def messages(self) -> Sequence[Message]:
        """Return what has come; see :class:`segmaformer.cli.cohort.host.Link`."""
        import ray

        try:
            found: list[Message] = ray.get(self.said)
        except ray.exceptions.RayTaskError as error:
            self._how = f"ended by {type(error.cause).__name__}: {error.cause}"
            raise EOFError from error
        except ray.exceptions.RayError as error:
            self._how = f"ended ({type(error).__name__})"
            raise EOFError from error
        self.said = self._actor.messages.remote()
        self._is_heard = True
        return found

    def ending(self) -> str:
        """End what may be left of the actor, and say how it ended."""
        self.end(0)
        return f"on node {self.node.address} {self._how}"

    def ask_to_end(self, *, is_idle: bool) -> None:
        """Ask an actor that has started to end its work and remove what is unfinished."""
        self.is_open = False
        if self._is_heard:
            self._ended = self._actor.end.remote()

    def end(self, seconds: float) -> None:
        """Wait until what is unfinished is removed, and kill the actor."""
        import ray

        self.is_open = False
        if self._ended is not None:
            ray.wait([self._ended], timeout=seconds)
        ray.kill(self._actor)


class RayHost:
    """Cluster of Ray that is connected to; make one by :func:`open_ray_host`.

    Parameters
    ----------
    packages
        Packages, whose files go to the nodes once.
    landmarks
        State of files that a node must see to share the work.
    most_processors
        Number of processors to use; None uses all.
    """

    def __init__(
        self,
        packages: Sequence[Package],
        landmarks: Mapping[str, State],
        most_processors: int | None,
    ):
        import ray

        self._nodes = _nodes()
        self.processors = sum(each.processors for each in self._nodes)
        if most_processors is not None:
            self.processors = min(self.processors, most_processors)
        self.gpus = sum(each.gpus for each in self._nodes)
        self._parcels = ray.put(tuple(map(Parcel.pack, packages)))
        self._landmarks = dict(landmarks)
        self._links: list[RayLink] = []

    def start(self, task: Task) -> RayLink:
        """Start an actor on the nearest node that has room, or elsewhere if that is gone."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        most = max(each.processors for each in self._nodes)
        threads = min(task.options.threads or self.processors, most)
        needs_gpu = self.gpus > 0 and task.may_use_gpu and task.options.device != "cpu"
        gpus = int(needs_gpu)
        node = self._node_with_room(threads, gpus)
        surroundings = Surroundings(
            node.address,
            segmaformer.__version__,
            self._landmarks,
            os.getcwd(),
            min(1.0, threads / max(1, node.processors)),
        )
        actor = (
            ray.remote(RayActor)
            .options(
                num_cpus=threads,
                num_gpus=gpus,
                max_concurrency=_CALLS_AT_ONCE,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=True),
            )
            .remote(task, surroundings, self._parcels)
        )
        link = RayLink(actor, node)
        self._links.append(link)
        return link

    def look(self, seconds: float) -> Sequence[RayLink]:
        """Return the actors that have said something or ended."""
        import ray

        self._links = [each for each in self._links if each.is_open]
        found = {each.said: each for each in self._links}
        if not found:
            return []
        ready, _ = ray.wait([*found], timeout=seconds)
        if ready:
            ready, _ = ray.wait([*found], num_returns=len(found), timeout=0)
        return [found[each] for each in ready]

    def leave_out(self, link: Link) -> bool:
        """End an actor and start no more on its node."""
        link.end(0)
        node = next(each.node for each in self._links if each is link)
        self._nodes = [each for each in self._nodes if each is not node]
        return bool(self._nodes)

    def fitting(self, peak_mib: float) -> int:
        """Return how many workers of this size the nodes' memory holds."""
        size = peak_mib * MIB
        return sum(int(_MEMORY_SHARE * each.memory_bytes / size) for each in self._nodes)

    def _node_with_room(self, threads: int, gpus: int) -> _Node:
        """Return the first node with room for one more actor, else the one with fewest."""
        taken = Counter(each.node.id for each in self._links if each.is_open)
        suitable = [
            each for each in self._nodes if each.processors >= threads and each.gpus >= gpus
        ] or self._nodes
        for node in suitable:
            room = node.processors // threads
            if taken[node.id] < (min(room, node.gpus) if gpus else room):
                return node
        return min(suitable, key=lambda node: taken[node.id])


@contextmanager
def open_ray_host(
    address: str, packages: Sequence[Package], cases: Sequence[Case], most_processors: int | None
) -> Iterator[RayHost]:
    """Start Ray on this machine, or connect to a cluster; leave it when the block ends.

    Parameters
    ----------
    address
        `RAY_HERE`, ``auto`` for the cluster that this machine is a node of, or HOST:PORT.
    packages
        Packages that the actors open.
    cases
        Scans, whose files a cluster's nodes must see as this machine does.
    most_processors
        Number of processors to use; None uses all.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    SgmfError
        There is no cluster at the address, or it has another version of Ray or Python.
    """
    require_extra("ray", extra="ray")
    with ExitStack() as opened:
        landmarks: dict[str, State] = {}
        if address == RAY_HERE:
            opened.enter_context(_ray_here(packages, most_processors or available_processors()))
        else:
            opened.enter_context(_connected(address))
            landmarks = opened.enter_context(_landmarks(cases))
        yield RayHost(packages, landmarks, most_processors)


@contextmanager
def _ray_here(packages: Sequence[Package], processors: int) -> Iterator[None]:
    """Run a Ray on this machine that listens on loopback alone, and leave no file behind."""
    os.environ.update(_SETTINGS, RAY_AUTH_TOKEN=secrets.token_hex(32))
    sizes = (file.size for each in packages for file in each.manifest.files.values())
    with (
        private_folder(_TEMPORARY) as folder,
        _connected(
            RAY_HERE,
            num_cpus=processors,
            include_dashboard=False,
            object_store_memory=_SMALLEST_STORE_BYTES + 2 * sum(sizes),
            _temp_dir=str(folder),
        ),
    ):
        _refuse_networks()
        yield


def _refuse_networks() -> None:
    """Raise an error if a Ray of the command's own can be reached from elsewhere."""
    addresses = [each.address for each in _nodes()]
    if not set(addresses) <= set(_LOOPBACK):
        raise SgmfError(
            f"Ray was loaded before and listens on {', '.join(addresses)}; expected loopback "
            "alone. Start a cluster yourself, and give its address to --ray"
        )


@contextmanager
def _connected(address: str, **settings: Any) -> Iterator[None]:
    """Be a driver of Ray."""
    import ray

    # Ray would print the deaths of actors among the results; no setting keeps it from that.
    vars(importlib.import_module("ray._private.worker"))["_worker_logs_enabled"] = False
    try:
        with _own_signals():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (RuntimeError, ValueError, OSError) as error:
        raise SgmfError(f"cannot use Ray at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the command's handlers of signals, which Ray replaces when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _landmarks(cases: Sequence[Case]) -> Iterator[dict[str, State]]:
    """Choose scans of some folders, and mark the folders of their results for as long as it takes.

    Another machine may have files of the same names; it has neither their times nor the marks.
    """
    scans = {each.scan[0].parent: each.scan[0] for each in reversed(cases)}
    places = [*dict.fromkeys(each.label_map.parent for each in cases)]
    with ExitStack() as marks:
        files = [
            *[*scans.values()][-_MOST_LANDMARKS:],
            *(marks.enter_context(_mark(place)) for place in places[:_MOST_LANDMARKS]),
        ]
        states = {os.path.abspath(file): state_of(file) for file in files}
        yield {file: state for file, state in states.items() if state is not None}


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    path, lock = unfinished.create_file(folder / "mark")
    try:
        yield path
    finally:
        unfinished.discard(path)
        os.close(lock)


def _nodes() -> list[_Node]:
    """List the nodes that are alive: the one of the command, then the others."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    found = [
        _Node(
            each["NodeID"],
            each["NodeManagerAddress"],
            int(each["Resources"].get("CPU", 0)),
            int(each["Resources"].get("GPU", 0)),
            each["Resources"].get("memory", 0.0),
        )
        for each in ray.nodes()
        if each["Alive"]
    ]
    nodes = sorted(found, key=lambda node: (node.id != own, node.address))
    return [node for node in nodes if node.processors > 0]
