"""Options of the HTTP service, and the service that they describe."""

from __future__ import annotations

import functools
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segmaformer.cli.parameters import EXISTING_FILE
from segmaformer.runtime.node.node import Log
from segmaformer.runtime.service.access import Access
from segmaformer.runtime.service.line import Line
from segmaformer.runtime.service.models import Model
from segmaformer.runtime.system.extras import require_extra
from segmaformer.runtime.system.memory import MIB

if TYPE_CHECKING:
    from segmaformer.runtime.service.app import Service
    from segmaformer.runtime.service.server import HttpServer

TOKEN_VARIABLE = "SGMF_SERVE_TOKEN"
"""Environment variable that holds the token."""
_MOST_TOKEN_BYTES = 4096
_MOST_UNPACKED = 4


@dataclass(frozen=True)
class HttpOptions:
    """Values of the options, by their names."""

    http: str | None
    token_file: Path | None
    most_waiting: int
    most_upload: int

    @property
    def wanted(self) -> bool:
        """True if there is an address to listen on."""
        return self.http is not None

    def check(self) -> None:
        """Refuse what no service can be made of.

        Raises
        ------
        click.UsageError
            The address is of another form, or reaches other machines without a token.
        MissingExtraError
            What a service needs is not installed.
        """
        require_extra("fastapi", "uvicorn", "python_multipart", extra="serve")
        host, _ = self._address()
        if self._access().token is None and not ipaddress.ip_address(host).is_loopback:
            raise click.UsageError(
                f"--http {self.http} lets other machines ask; give a token by --token-file or "
                f"{TOKEN_VARIABLE}"
            )

    @contextmanager
    def open(
        self, models: Mapping[str, Model], line: Line, log: Log
    ) -> Iterator[tuple[Service, HttpServer]]:
        """Open the service; yield the state of its paths, and its server."""
        from segmaformer.runtime.service.app import Service, make_app
        from segmaformer.runtime.service.guard import Guard
        from segmaformer.runtime.service.server import HttpServer

        most_bytes = self.most_upload * MIB
        service = Service(models, line, log, most_bytes, _MOST_UNPACKED * most_bytes)
        app = Guard(make_app(service), self._access(), service.counts)
        server = HttpServer(app, self._address())
        try:
            yield service, server
        finally:
            server.close()

    def _address(self) -> tuple[str, int]:
        host, colon, port = (self.http or "").rpartition(":")
        host = "127.0.0.1" if host == "localhost" else host.strip("[]")
        try:
            if not colon or not port.isdigit() or int(port) > 65535:
                raise ValueError
            return str(ipaddress.ip_address(host)), int(port)
        except ValueError:
            raise click.UsageError(
                f"--http {self.http!r} is not of the form HOST:PORT with an IP address, such as "
                "127.0.0.1:8000"
            ) from None

    def _access(self) -> Access:
        token = os.environ.get(TOKEN_VARIABLE) or None
        try:
            if self.token_file is not None:
                with self.token_file.open("rb") as file:
                    token = file.read(_MOST_TOKEN_BYTES).decode("ascii").strip()
            return Access(token)
        except UnicodeDecodeError:
            raise click.UsageError(f"{self.token_file} holds no token of ASCII letters") from None
        except ValueError as error:
            raise click.UsageError(str(error)) from None


_OPTIONS = (
    click.option(
        "--http",
        metavar="HOST:PORT",
        help="Answer HTTP requests on this address; port 0 takes a free one. An address that "
        "other machines reach needs a token.",
    ),
    click.option(
        "--token-file",
        type=EXISTING_FILE,
        metavar="FILE",
        help="File with the token that HTTP requests must carry. Default: the environment "
        f"variable {TOKEN_VARIABLE}.",
    ),
    click.option(
        "--most-waiting",
        type=click.IntRange(1, 1024),
        default=16,
        show_default=True,
        metavar="N",
        help="Largest number of HTTP requests that wait or are worked on; others are asked to "
        "try later.",
    ),
    click.option(
        "--most-upload",
        type=click.IntRange(1, 1 << 20),
        default=2048,
        show_default=True,
        metavar="MIB",
        help="Largest upload in MiB; a zip may unpack to four times as much.",
    ),
)


def http_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the service, which the command gets as one argument `http`."""

    @functools.wraps(command)
    def with_http(*arguments: Any, **values: Any) -> Any:
        own = {name: values.pop(name) for name in HttpOptions.__dataclass_fields__}
        return command(*arguments, http=HttpOptions(**own), **values)

    for option in reversed(_OPTIONS):
        with_http = option(with_http)
    return with_http
