"""Rule of access: holders of the token, or else programs and pages of this machine.

Without a token the service listens on this machine only. A page of a foreign site in a browser
here could still send to it, or reach it under a name of its own that leads to this machine. So
the host and the origin that a browser states must be this machine, too.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

OPEN_PATHS = frozenset({"/", "/health", "/ready"})
"""Paths that need no token: they tell nothing about scans or models."""
LEAST_TOKEN_LENGTH = 16


@dataclass(frozen=True)
class Access:
    """Rule of who may ask.

    Attributes
    ----------
    token
        Secret that requests must carry; None trusts this machine.

    Raises
    ------
    ValueError
        The token is too short, or not of visible ASCII characters.
    """

    token: str | None = None

    def __post_init__(self) -> None:
        token = self.token
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("the token has other than visible ASCII characters; make a new one")
        if token is not None and len(token) < LEAST_TOKEN_LENGTH:
            raise ValueError(
                f"the token has {len(token)} characters; expected at least {LEAST_TOKEN_LENGTH}, "
                "such as `openssl rand -hex 32` gives"
            )

    def refusal(self, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return the status and the reason for a request that is refused; None if it may pass.

        Parameters
        ----------
        path
            Path of the request.
        headers
            Headers of the request, found by their names in lower case.
        """
        if self.token is None:
            return _foreign(headers)
        if path in OPEN_PATHS:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        # The values are compared in a time that does not tell how much of them is equal.
        equal = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if kind.lower() == "bearer" and equal:
            return None
        return 401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN"


def is_this_machine(host: str) -> bool:
    """Tell if a host, an address or a name, is this machine to itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _foreign(headers: Mapping[str, str]) -> tuple[int, str] | None:
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_this_machine(_name(f"//{host}")):
        return 403, "the request names another host; without a token ask for localhost"
    if origin is not None and urlsplit(origin).netloc != host:
        return 403, "the request comes from a page of another site"
    return None


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
