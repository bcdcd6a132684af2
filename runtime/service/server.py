"""The HTTP server, on a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

_MOST_CONNECTIONS = 1024
_IDLE_SECONDS = 5
_LOOK_SECONDS = 0.1


class HttpServer:
    """A running server.

    Parameters
    ----------
    app
        Application that answers.
    address
        IP address and port to listen on; port 0 chooses a free one.

    Attributes
    ----------
    port
        Port that it listens on.

    Raises
    ------
    OSError
        The address cannot be used.
    """

    def __init__(self, app: ASGIApp, address: tuple[str, int]):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._listener = socket.create_server(address, family=family)
        self.port = int(self._listener.getsockname()[1])
        _silence()
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=_IDLE_SECONDS,
            )
        )
        arguments = {"sockets": [self._listener]}
        self._thread = threading.Thread(
            target=self._server.run, kwargs=arguments, name="http", daemon=True
        )
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """True while it answers."""
        return self._thread.is_alive()

    def drain(self, check: Callable[[], None]) -> None:
        """Listen no more, and wait until all requests that came are answered.

        Parameters
        ----------
        check
            Called meanwhile; it may raise an error to end the wait.
        """
        self._server.should_exit = True
        while self._thread.is_alive():
            check()
            self._thread.join(_LOOK_SECONDS)

    def close(self) -> None:
        """Listen no more, and drop all connections."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(1)


def _silence() -> None:
    """Keep the server from logging: it would log addresses, and texts of errors."""
    logger = logging.getLogger("uvicorn")
    logger.handlers[:] = [logging.NullHandler()]
    logger.propagate = False
