"""Guard before all paths: it turns away who may not ask, and counts all answers."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segmaformer.runtime.service.access import Access
from segmaformer.runtime.service.counts import Counts

_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_MOST_DISCARDED_SECONDS = 10.0


class Guard:
    """Application around another.

    Parameters
    ----------
    app
        Application for requests that may pass.
    access
        Rule of who may ask.
    counts
        Counters of requests and of the bytes that were read.
    """

    def __init__(self, app: ASGIApp, access: Access, counts: Counts):
        self._app, self._access, self._counts = app, access, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        has_more = True
        headers = Headers(scope=scope)

        async def counted() -> Message:
            nonlocal has_more
            message = await receive()
            has_more = message["type"] == "http.request" and message.get("more_body", False)
            self._counts.add("upload_bytes", len(message.get("body", b"")))
            return message

        async def discard() -> None:
            # A client that still sends when the connection closes may never read the answer.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(discard_all(), _MOST_DISCARDED_SECONDS)

        async def discard_all() -> None:
            while has_more:
                await counted()

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.add("requests", status=str(message["status"]))
                if "expect" not in headers:
                    await discard()
            await send(message)

        refusal = self._access.refusal(scope["path"], headers)
        if refusal is None:
            await self._app(scope, counted, answered)
            return
        status, message = refusal
        response = JSONResponse({"error": message}, status, _CHALLENGE if status == 401 else None)
        await response(scope, counted, answered)
