"""Open network of a package: its session and its runs, for a predictor."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from segmaformer.runtime.backends import NetworkKind, Session
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline.device_network import DeviceNetwork, check_device_labels
from segmaformer.runtime.pipeline.prediction import ON_PROCESSOR
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.progress import Report
from segmaformer.runtime.system.interruption import check, ended_by


class OpenNetwork:
    """Session that may be closed to free its memory, and opens again when it is used.

    Parameters
    ----------
    open_session
        Opens the session.
    mirrored_axes
        Axes over whose mirror images the logits are averaged.
    report
        Called with a line if logits leave the device although they could be summed there.

    Attributes
    ----------
    description
        Backend, device and variant, as shown to people.
    kind
        The same without versions and threads, to compare runs by.
    """

    def __init__(
        self, open_session: Callable[[], Session], mirrored_axes: tuple[int, ...], report: Report
    ):
        self._open, self._mirrored_axes, self._report = open_session, mirrored_axes, report
        self._opened: tuple[Session, DeviceNetwork | None] | None = None
        self.description = self.session.description
        self.kind: NetworkKind = self.session.kind

    @property
    def session(self) -> Session:
        """The session, opened if it is not."""
        return self._get()[0]

    @property
    def is_open(self) -> bool:
        """True while the session holds memory."""
        return self._opened is not None

    def close(self) -> None:
        """Free the session, once its runs have ended."""
        self._opened = None

    def on_processor(self, cancel: threading.Event | None) -> TileNetwork:
        """Return the runs of tiles whose logits come to memory of the processor."""
        session = self.session
        coarse = session.coarse
        run_tiles, grid = (session.run, None) if coarse is None else (coarse.run, coarse.grid)

        def run(tiles: np.ndarray) -> np.ndarray:
            with ended_by(cancel):
                check()
                logits = run_tiles(tiles)
                check()
                return logits

        return TileNetwork(run, session.tiles_at_once, session.overlap, self._mirrored_axes, grid)

    def on_device(self, cancel: threading.Event | None) -> DeviceNetwork | None:
        """Return the runs of tiles whose logits stay on a device; None if they do not."""

        def go_on() -> None:
            with ended_by(cancel):
                check()

        resident = self._get()[1]
        return None if resident is None else resident.before_each(go_on)

    def _get(self) -> tuple[Session, DeviceNetwork | None]:
        opened = self._opened
        if opened is None:
            session = self._open()
            opened = self._opened = session, self._find_resident(session)
        return opened

    def _find_resident(self, session: Session) -> DeviceNetwork | None:
        """Return the network with its logits left on a device that was tested to sum them right."""
        resident = session.resident
        if resident is None:
            return None
        try:
            if self._mirrored_axes:
                raise BackendError("those of mirrored tiles are averaged there")
            check_device_labels(resident.device)
        except BackendError as error:
            self._report(f"{ON_PROCESSOR}: {error}")
            return None
        return resident
