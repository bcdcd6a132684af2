"""A service with a stand-in for the network, which tests hold back."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from support.scans.report_phantom import phantom

from segmaformer.runtime.errors import CancelledError
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.service.access import Access
from segmaformer.runtime.service.app import Service, make_app
from segmaformer.runtime.service.guard import Guard
from segmaformer.runtime.service.line import Line
from segmaformer.runtime.service.models import Model
from segmaformer.runtime.service.server import HttpServer

TOKEN = "0123456789abcdef0123456789abcdef"
MOST_BYTES = 1 << 20


class Network:
    """Stand-in for a package: it waits for `go`, a step at a time, and notes what it was asked."""

    def __init__(self) -> None:
        self.go, self.begun, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.go.set()
        self.files: list[Path] = []
        self.error: Exception | None = None
        self.steps = 0

    def __call__(self, files: list[Path], **asked: Any) -> Segmentation:
        self.files = files
        try:
            return self._segment(files, **asked)
        finally:
            self.ended.set()

    def _segment(self, files: list[Path], **asked: Any) -> Segmentation:
        volume = read_scan(files)
        self.begun.set()
        asked["warn"](f"{files[0]} is odd. Look at it")
        asked["progress"]("tiles", 1, 2)
        while not self.go.wait(0.02):
            self.steps += 1
            if asked["cancel"].is_set():
                raise CancelledError("the prediction was cancelled")
        if self.error is not None:
            raise self.error
        labels = (volume.voxels[0] > 100).astype(np.uint8)
        return dataclasses.replace(phantom(), volume=volume, labels=labels)


@dataclasses.dataclass
class Running:
    """A running service."""

    port: int
    network: Network
    service: Service
    server: HttpServer
    log: list[dict[str, Any]]

    def wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(self.log)


@contextmanager
def running(
    *, most_places: int = 3, token: str | None = None, models: tuple[str, ...] = ("one",)
) -> Iterator[Running]:
    log: list[dict[str, Any]] = []
    network, line = Network(), Line(most_places)
    manifest = phantom().manifest
    named = {name: Model(name, manifest, "a" * 64, network) for name in models}
    service = Service(named, line, log.append, MOST_BYTES, 4 * MOST_BYTES)
    app = Guard(make_app(service), Access(token), service.counts)
    server = HttpServer(app, ("127.0.0.1", 0))
    try:
        yield Running(server.port, network, service, server, log)
    finally:
        network.go.set()
        server.close()
        line.close()


def phantom_file(suffix: str) -> bytes:
    """Return the phantom's scan, in whole numbers, as a file of a format."""
    segmentation = phantom()
    voxels = segmentation.volume.voxels[0].clip(0, 255).astype(np.uint8)
    return dataclasses.replace(segmentation, labels=voxels).to_bytes(suffix)
