"""Sending of results: by C-STORE to an application entity, or by STOW-RS to a web service."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from segmaformer.runtime.node.receiver import silence

_TIMEOUT_SECONDS = 60
_FULL = range(0xA700, 0xA800)
_WARNINGS = range(0xB000, 0xC000)


class Outcome(Enum):
    """Fate of a result that was sent."""

    DELIVERED = "delivered"
    LATER = "unreachable or full"
    REJECTED = "association rejected"
    UNKNOWN_CLASS = "class or coding not accepted"
    REFUSED = "refused"


class Destination(Protocol):
    """Place that results go to."""

    def send(self, result: Path) -> Outcome:
        """Send a file, and tell what became of it."""
        ...


@dataclass(frozen=True)
class ApplicationEntity:
    """A C-STORE service.

    Attributes
    ----------
    own_title
        Title that this node gives itself.
    title, host, port
        Title and address of the service.
    """

    own_title: str
    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str, own_title: str) -> ApplicationEntity:
        """Parse ``AET@HOST:PORT``.

        Raises
        ------
        ValueError
            The text has another form.
        """
        title, at, place = text.rpartition("@")
        host, colon, port = place.rpartition(":")
        if not at or not colon or not host or not is_title(title) or not port.isdigit():
            raise ValueError(
                f"{text!r} is not of the form AET@HOST:PORT, such as PACS@10.0.0.5:104"
            )
        return cls(own_title, title, host.strip("[]"), int(port))

    def send(self, result: Path) -> Outcome:
        """Send a file by C-STORE."""
        from pydicom import dcmread
        from pynetdicom import AE

        silence()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(result)
            entity = AE(ae_title=self.own_title)
            entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
            association = entity.associate(self.host, self.port, ae_title=self.title)
            if not association.is_established:
                if association.is_rejected:
                    return Outcome.REJECTED
                # Without a context that was accepted the association was given up here.
                has_context = not association.rejected_contexts
                return Outcome.LATER if has_context else Outcome.UNKNOWN_CLASS
            try:
                return _outcome(association.send_c_store(dataset))
            except ValueError:  # no context for this class and coding
                return Outcome.UNKNOWN_CLASS
            finally:
                association.release()


def is_title(text: str) -> bool:
    """Tell if a text is an application entity title."""
    return len(text.strip()) > 0 and len(text) <= 16 and text.isprintable() and "\\" not in text


def _outcome(status: Any) -> Outcome:
    code = status.Status if "Status" in status else None
    if code == 0 or code in _WARNINGS:
        return Outcome.DELIVERED
    return Outcome.LATER if code is None or code in _FULL else Outcome.REFUSED


@dataclass(frozen=True)
class WebService:
    """A STOW-RS service: the address of its studies, without credentials."""

    url: str

    @classmethod
    def parse(cls, text: str) -> WebService:
        """Check an address.

        Raises
        ------
        ValueError
            It is no address of a web service.
        """
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{text!r} is no http or https address of a STOW-RS service")
        return cls(text)

    def send(self, result: Path) -> Outcome:
        """Send a file by POST."""
        boundary = secrets.token_hex(16)
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
                result.read_bytes(),
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as response:
                return Outcome.DELIVERED if response.status == 200 else Outcome.REFUSED
        except urllib.error.HTTPError as error:
            error.close()
            return Outcome.LATER if error.code >= 500 else Outcome.REFUSED
        except (OSError, HTTPException):
            return Outcome.LATER


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A result goes to the address that was given, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
