"""Choice of ``auto`` between two backends on the CPU, by the time of one tile on this machine.

Which is faster depends on the network, its tile and the processor. So both run the phantom tile
in turns when a network is used for the first time, and the times are kept.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.backends.session import Session
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.stored_reference import reference_tile

MOST_ROUNDS = 3
LONG_SECONDS = 5.0
"""Time of a round, beyond which one does: noise is small beside it."""


@dataclass(frozen=True)
class TileSeconds:
    """Fastest runs of one tile.

    Attributes
    ----------
    candidate, everywhere
        Seconds of the backend, and of ONNX Runtime on the CPU.
    """

    candidate: float
    everywhere: float

    @property
    def is_faster(self) -> bool:
        """True if the backend is the faster one."""
        return self.candidate < self.everywhere


def remembered(memory: EngineCache, identity: str) -> TileSeconds | None:
    """Return the times kept for a session's identity; None if there are none.

    Raises
    ------
    EngineError
        They were altered.
    """
    found = memory.recall(_note(identity))
    return None if found is None else TileSeconds(**json.loads(found[0]))


def measure(
    memory: EngineCache, package: Package, session: Session, everywhere: Session
) -> TileSeconds:
    """Run one tile in both sessions, which ran before, and keep the times.

    Parameters
    ----------
    memory
        What keeps the times.
    package
        Package of both sessions.
    session
        Session of the backend, with an identity.
    everywhere
        Session of ONNX Runtime on the CPU.
    """
    tile = reference_tile(package.manifest)
    rounds: list[tuple[float, float]] = []
    while len(rounds) < MOST_ROUNDS and sum(rounds[-1] if rounds else ()) < LONG_SECONDS:
        rounds.append((_seconds(session, tile), _seconds(everywhere, tile)))
    times = TileSeconds(*map(min, zip(*rounds, strict=True)))
    assert session.identity is not None
    memory.remember(_note(session.identity), json.dumps(dataclasses.asdict(times)).encode())
    return times


def _seconds(session: Session, tile: np.ndarray) -> float:
    start = time.perf_counter()
    session.run(tile)
    return time.perf_counter() - start


def _note(identity: str) -> str:
    return f"{identity}.seconds"
