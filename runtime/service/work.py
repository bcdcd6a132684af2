"""One request's work on the line, and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from segmaformer.runtime.errors import CancelledError, InputError, MissingExtraError
from segmaformer.runtime.scans.from_bytes import kept_as_files, without_folder
from segmaformer.runtime.scans.zip_of_images import TooLargeError
from segmaformer.runtime.service.counts import Counts
from segmaformer.runtime.service.form import Asked
from segmaformer.runtime.service.results import Result, result_of
from segmaformer.runtime.system.interruption import ended_by

Log = Callable[[dict[str, Any]], None]
Outcome = tuple[Result, ...] | Exception
"""Results of a scan, or the error that it ended with."""

_CLIENT_GONE = 499


class Work:
    """Segmentation of one request's scan, and its results.

    Parameters
    ----------
    asked
        The request.
    most_unpacked_bytes
        Limit of a zip's content, in bytes.
    counts, log
        Told of the outcome, without names.

    Attributes
    ----------
    cancel
        Event to set to end the work, within a tile.
    warnings
        Warnings about the scan, complete with the outcome.
    """

    def __init__(self, asked: Asked, most_unpacked_bytes: int, counts: Counts, log: Log):
        self._asked, self._most_unpacked_bytes = asked, most_unpacked_bytes
        self._counts, self._log = counts, log
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._told: dict[str, Any] = {"event": "waiting"}
        self._future: Future[Outcome] = Future()
        self.cancel = threading.Event()
        self.warnings: list[str] = []

    def start(self, submit: Callable[[Callable[[], Outcome]], Future[Outcome]]) -> None:
        """Enter the line by its function."""
        self._future = submit(self._run)
        self._future.add_done_callback(lambda _: self._wake())

    def give_up(self) -> None:
        """End the work, or leave the line before it; nobody waits for the outcome."""
        self.cancel.set()
        self._future.cancel()

    async def outcome(self) -> Outcome:
        """Wait for the results, or the error that they ended with."""
        while not self._future.done():
            await self._next_news()
        if self._future.cancelled():
            return CancelledError("the client left the line")
        return self._future.result()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what happens until the results: the latest news alone, if there are many."""
        told = None
        while not self._future.done():
            if self._told is not told:
                told = self._told
                yield told
            await self._next_news()
        outcome = await self.outcome()
        if isinstance(outcome, Exception):
            status, message = told_of(outcome)
            yield {"event": "error", "status": status, "error": message}
            return
        for warning in self.warnings:
            yield {"event": "warning", "warning": warning}
        for result in outcome:
            yield {
                "event": "result",
                "result": result.kind,
                "media_type": result.media_type,
                "name": result.name,
                "base64": base64.b64encode(result.content).decode(),
            }

    async def _next_news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def _tell(self, event: dict[str, Any]) -> None:
        self._told = event
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._news.set)

    def _run(self) -> Outcome:
        """Do the work, on the line's thread. An error is an outcome as well."""
        start = time.monotonic()
        self._tell({"event": "started"})
        outcome: Outcome
        try:
            outcome = self._results()
        except KeyboardInterrupt:
            outcome = CancelledError("the service ends")
        except Exception as error:  # else one scan would end the service
            outcome = error
        seconds = time.monotonic() - start
        fate = _fate(outcome)
        name = self._asked.model.name
        self._counts.add("scans", model=name, outcome=fate)
        self._counts.add("scan_seconds", seconds, model=name)
        event = {"event": fate, "model": name, "seconds": round(seconds, 3)}
        reason = {"reason": type(outcome).__name__} if isinstance(outcome, Exception) else {}
        self._log({**event, **reason})
        return outcome

    def _results(self) -> tuple[Result, ...]:
        asked = self._asked

        def progress(stage: str, done: int, count: int) -> None:
            self._tell({"event": "progress", "stage": stage, "done": done, "count": count})

        with (
            ended_by(self.cancel),
            kept_as_files(asked.contents, most_unpacked_bytes=self._most_unpacked_bytes) as files,
        ):
            segmentation = asked.model.segment(
                files,
                dicom="segmentation" in asked.kinds,
                warn=lambda text: self.warnings.append(without_folder(text, files)),
                progress=progress,
                cancel=self.cancel,
            )
            return tuple(result_of(segmentation, kind, self.warnings) for kind in asked.kinds)


def told_of(error: Exception) -> tuple[int, str]:
    """Return the status and the message for an error; those of defects are not told."""
    if isinstance(error, TooLargeError):
        return 413, str(error)
    if isinstance(error, InputError):
        return 422, str(error)
    if isinstance(error, MissingExtraError):
        return 501, str(error)
    if isinstance(error, CancelledError):
        return _CLIENT_GONE, str(error)
    return 500, "the segmentation failed; the service's log names the kind of error"


def _fate(outcome: Outcome) -> str:
    if not isinstance(outcome, Exception):
        return "done"
    if isinstance(outcome, CancelledError):
        return "cancelled"
    return "refused" if isinstance(outcome, InputError) else "failed"
