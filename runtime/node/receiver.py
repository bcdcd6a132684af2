"""Receiver of images over the network: a C-STORE service that stores bytes as they come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from segmaformer.runtime.node.spool import Spool

_VERIFICATION = "1.2.840.10008.1.1"
SUCCESS, NOT_AUTHORIZED, OUT_OF_RESOURCES = 0x0000, 0x0124, 0xA700


@dataclass(frozen=True)
class Peer:
    """A machine that may send: its application entity title and its address."""

    title: str
    address: str


class Receiver:
    """A running service; it stores on threads of its own.

    Parameters
    ----------
    spool
        Queue for what comes.
    title
        Application entity title of this node, which callers must name.
    address
        Address and port to listen on; port 0 chooses a free one.
    peers
        Machines that may send; empty allows all that reach the address.
    count
        Called with the name of each event.

    Attributes
    ----------
    port
        Port that it listens on.

    Raises
    ------
    OSError
        The address cannot be used.
    """

    def __init__(
        self,
        spool: Spool,
        title: str,
        address: tuple[str, int],
        peers: Sequence[Peer],
        count: Callable[[str], None],
    ):
        from pynetdicom import (
            AE,
            ALL_TRANSFER_SYNTAXES,
            AllStoragePresentationContexts,
            evt,
        )

        silence()
        self._spool, self._peers, self._count = spool, peers, count
        entity = AE(ae_title=title)
        entity.require_called_aet = True
        entity.require_calling_aet = sorted({peer.title for peer in peers})
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        entity.add_supported_context(_VERIFICATION)
        server = entity.start_server(
            address,
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, self._echo)],
        )
        assert server is not None
        self._server = server
        self.port = int(server.server_address[1])

    def close(self) -> None:
        """Stop listening, and end what is connected."""
        self._server.shutdown()

    def _echo(self, event: Any) -> int:
        return SUCCESS if self._may_send(event) else NOT_AUTHORIZED

    def _store(self, event: Any) -> int:
        if not self._may_send(event):
            self._count("turned away")
            return NOT_AUTHORIZED
        try:
            is_stored = self._spool.store(event.encoded_dataset())
        except OSError:
            self._count("not stored")
            return OUT_OF_RESOURCES
        self._count("received" if is_stored else "no room")
        return SUCCESS if is_stored else OUT_OF_RESOURCES

    def _may_send(self, event: Any) -> bool:
        caller = event.assoc.requestor
        return not self._peers or Peer(caller.ae_title.strip(), caller.address) in self._peers


def silence() -> None:
    """Keep the libraries from logging, since they would log identifications."""
    for name in ("pynetdicom", "pydicom"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False
