"""Requests to a service of this machine, and uploads that end in the middle."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BOUNDARY = "a-boundary-that-no-scan-holds"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PROGRESS = "application/x-ndjson"


@dataclass(frozen=True)
class Answer:
    """Answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        message: str = self.json["error"]
        return message

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


def form(*scans: bytes, **fields: str | Sequence[str]) -> bytes:
    """Build a form of scans and fields."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="scan"; filename="../x"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + scan
        + b"\r\n"
        for scan in scans
    ]
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            parts.append(f"{head}{value}\r\n".encode())
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """Send a request; underscores in the names of headers stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()


def segment(port: int, *scans: bytes, accept: str = "*/*", **fields: str | Sequence[str]) -> Answer:
    """Ask for the segmentation of a scan."""
    body = form(*scans, **fields)
    return ask(port, "POST", "/segment", body, Content_Type=FORM, Accept=accept)


def begin(port: int, body: bytes, *, promised: int | None = None) -> socket.socket:
    """Send a request, or its beginning, and return the open connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    length = len(body) if promised is None else promised
    head = f"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
    return connection
