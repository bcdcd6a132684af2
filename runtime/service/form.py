"""Reading of a request for a segmentation: a multipart form with scans, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, get_args

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from segmaformer.runtime.service.models import Model
from segmaformer.runtime.service.results import ResultKind

PROGRESS_TYPE = "application/x-ndjson"
"""Media type of an answer that tells of progress, a JSON document a line."""
FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["scan"],
    "properties": {
        "scan": {
            "description": "NIfTI, NRRD, MetaImage or a zip of a DICOM series; one for each "
            "channel, in the model's order, or one that holds them all",
            "type": "array",
            "items": {"type": "string", "format": "binary"},
        },
        "model": {
            "description": "Name of the model, if there are several",
            "type": "string",
        },
        "result": {
            "description": "What to answer; several only with progress",
            "type": "array",
            "items": {"type": "string", "enum": [*get_args(ResultKind)]},
            "default": ["labels"],
        },
    },
}

_MOST_FILES, _MOST_FIELDS, _MOST_FIELD_BYTES = 16, 16, 1024
_MOST_SECONDS = 900.0


class Refusal(Exception):  # noqa: N818  (an answer, not a defect)
    """Answer to a request that is not met, with its status and headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Attributes
    ----------
    model
        Model to segment with.
    kinds
        Results to answer with.
    contents
        Open files of the scans.
    """

    model: Model
    kinds: tuple[ResultKind, ...]
    contents: tuple[BinaryIO, ...]

    def close(self) -> None:
        """Free the files."""
        for content in self.contents:
            content.close()


async def read_request(
    request: Request, models: Mapping[str, Model], *, most_bytes: int, with_progress: bool
) -> Asked:
    """Read a form, at most `most_bytes` of it; small files stay in memory, others are on disk.

    Raises
    ------
    Refusal
        It is of another form, too large, too slow, or asks for what there is not.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(415, "expected a form, multipart/form-data, with the field scan")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most_bytes:
        raise _too_large(most_bytes)
    limited = Request(request.scope, _Limited(request, most_bytes).receive)
    reading = limited.form(
        max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
    )
    try:
        form = await asyncio.wait_for(reading, _MOST_SECONDS)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the upload took more than {_MOST_SECONDS:g} seconds") from None
    try:
        return _parse(form, models, with_progress=with_progress)
    except Refusal:
        await form.close()
        raise


@dataclass
class _Limited:
    """Body of a request up to a number of bytes."""

    request: Request
    left: int

    def __post_init__(self) -> None:
        self._most = self.left

    async def receive(self) -> Message:
        message = await self.request.receive()
        self.left -= len(message.get("body", b""))
        if self.left < 0:
            raise _too_large(self._most)
        return message


def _parse(form: FormData, models: Mapping[str, Model], *, with_progress: bool) -> Asked:
    unknown = {*form} - {*FORM_SCHEMA["properties"]}
    if unknown:
        known = ", ".join(FORM_SCHEMA["properties"])
        raise Refusal(400, f"the form has other fields than {known}")
    scans = form.getlist("scan")
    files = [each.file for each in scans if isinstance(each, UploadFile)]
    if not files or len(files) < len(scans):
        raise Refusal(400, "expected one file or more in the field scan")
    kinds = form.getlist("result") or ["labels"]
    if not {*kinds} <= {*get_args(ResultKind)} or len({*kinds}) < len(kinds):
        raise Refusal(400, f"result is none of {', '.join(get_args(ResultKind))}, or is repeated")
    if len(kinds) > 1 and not with_progress:
        raise Refusal(400, f"several results need the header Accept: {PROGRESS_TYPE}")
    return Asked(_model(form.getlist("model"), models), (*kinds,), (*files,))  # type: ignore[arg-type]


def _model(named: list[UploadFile | str], models: Mapping[str, Model]) -> Model:
    known = ", ".join(models)
    if not named and len(models) == 1:
        return next(iter(models.values()))
    if len(named) != 1:
        raise Refusal(400, f"name one model in the field model: {known}")
    name = named[0]
    if not isinstance(name, str) or name not in models:
        raise Refusal(404, f"there is no model of that name; there are: {known}")
    return models[name]


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(413, f"the upload is larger than {most_bytes >> 20} MiB")
