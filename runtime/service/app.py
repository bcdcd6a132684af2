"""Paths of the service, and what each answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.responses import StreamingResponse as Streaming
from starlette.types import Message, Receive, Scope, Send

import segmaformer
from segmaformer.runtime.service.access import OPEN_PATHS
from segmaformer.runtime.service.counts import Counts
from segmaformer.runtime.service.form import FORM_SCHEMA, PROGRESS_TYPE, Refusal, read_request
from segmaformer.runtime.service.line import Line, LineFullError
from segmaformer.runtime.service.models import Model
from segmaformer.runtime.service.page_file import page
from segmaformer.runtime.service.results import Result
from segmaformer.runtime.service.work import Log, Work, told_of

RETRY_SECONDS = 10
_PIECE_BYTES = 1 << 16
_MOST_PIECE_SECONDS = 60.0
_RETRY = {"Retry-After": str(RETRY_SECONDS)}
_STATUSES = {
    400: "The form is of another form than expected",
    401: "The token is missing or wrong",
    403: "The request comes from another site",
    404: "There is no such model",
    408: "The upload was too slow",
    413: "The upload, or what its zip unpacks to, is too large",
    415: "The body is no multipart form",
    422: "The scan is refused; the error says why",
    429: "The line is full; try again after Retry-After",
    500: "The segmentation failed",
    501: "An optional package that this needs is not installed",
    503: "The service is ending",
}


@dataclass
class Service:
    """State that the paths share.

    Attributes
    ----------
    models
        Models by name.
    line
        Line that all work waits in.
    log
        Called with an event, which holds no names.
    most_upload_bytes
        Limit of a request, in bytes.
    most_unpacked_bytes
        Limit of a zip's content, in bytes.
    counts
        Counters for ``/metrics``.
    ending
        Whether no new work is taken.
    """

    models: Mapping[str, Model]
    line: Line
    log: Log
    most_upload_bytes: int
    most_unpacked_bytes: int
    counts: Counts = field(default_factory=Counts)
    ending: bool = False

    async def segment(self, request: Request) -> Response:
        """Answer ``POST /segment``; the line has a place for it before the scan is read."""
        if self.ending:
            raise Refusal(503, "the service is ending", _RETRY)
        with_progress = PROGRESS_TYPE in request.headers.get("accept", "")
        with ExitStack() as held:
            held.enter_context(self.line.place())
            asked = await read_request(
                request,
                self.models,
                most_bytes=self.most_upload_bytes,
                with_progress=with_progress,
            )
            held.callback(asked.close)
            work = Work(asked, self.most_unpacked_bytes, self.counts, self.log)
            work.start(self.line.submit)
            watch = asyncio.create_task(_give_up_when_gone(request, work))
            held.callback(watch.cancel)
            if with_progress:
                return _Kept(_lines(work), held.pop_all(), media_type=PROGRESS_TYPE)
            outcome = await work.outcome()
            if isinstance(outcome, Exception):
                raise Refusal(*told_of(outcome))
            return _file(outcome[0], work.warnings, held.pop_all())


class _Kept(Streaming):
    """Answer that keeps what it holds, such as its place in the line, until it is sent.

    So answers wait here and not in the server's buffers; a client that does not read is cut off.
    """

    def __init__(self, content: AsyncIterator[bytes], held: ExitStack, **options: Any):
        super().__init__(content, **options)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            await asyncio.wait_for(send(message), _MOST_PIECE_SECONDS)

        with self._held:
            await super().__call__(scope, receive, sent)


async def _lines(work: Work) -> AsyncIterator[bytes]:
    async for event in work.events():
        async for piece in _pieces(json.dumps(event).encode() + b"\n"):
            yield piece


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]


async def _give_up_when_gone(request: Request, work: Work) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    work.give_up()


def _file(result: Result, warnings: Sequence[str], held: ExitStack) -> Response:
    headers = {
        "Content-Length": str(len(result.content)),
        "Content-Disposition": f'attachment; filename="{result.name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if warnings:
        headers["Sgmf-Warnings"] = json.dumps(warnings)
    return _Kept(_pieces(result.content), held, media_type=result.media_type, headers=headers)


def make_app(service: Service) -> FastAPI:
    """Make the paths; who may ask is decided before, see :mod:`segmaformer.runtime.service.guard`.

    Parameters
    ----------
    service
        State that they share.
    """
    app = FastAPI(
        title="segmaformer", version=segmaformer.__version__, docs_url=None, redoc_url=None
    )
    _add_errors(app)
    app.post(
        "/segment",
        summary="Segment a scan",
        description=f"With Accept: {PROGRESS_TYPE} a JSON document a line tells of the progress.",
        response_class=Response,
        responses={status: {"description": text} for status, text in _STATUSES.items()},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": FORM_SCHEMA}},
            }
        },
    )(service.segment)

    @app.get("/models", summary="List the models")
    async def models() -> list[dict[str, Any]]:
        return [model.document() for model in service.models.values()]

    @app.get("/health", summary="Tell that the process answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Tell if scans are taken")
    async def ready() -> Response:
        status = 503 if service.ending else 200
        return JSONResponse({"status": "ending" if service.ending else "ready"}, status)

    @app.get("/metrics", summary="Counters in Prometheus' text format")
    async def metrics() -> Response:
        text = service.counts.text(waiting=service.line.taken)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def start_page() -> Response:
        text, policy = page()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    assert {"/", "/health", "/ready"} == OPEN_PATHS
    return app


def _add_errors(app: FastAPI) -> None:
    """Answer every error by one JSON document, ``{"error": ...}``."""

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)

    @app.exception_handler(LineFullError)
    async def ask_later(_: Request, error: LineFullError) -> Response:
        return JSONResponse({"error": str(error)}, 429, _RETRY)

    @app.exception_handler(HTTPException)
    async def pass_on(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def forget(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)
