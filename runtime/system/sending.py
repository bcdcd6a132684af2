"""Messages between processes."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def send(connection: Connection, message: object) -> None:
    """Send a message that the other end takes with ``recv``.

    ``Connection.send`` does the same through a view of a buffer. In CPython 3.12.0 and 3.12.1
    (cpython#111049) the garbage collector ends the process where such a view is left in the
    traceback of a send that failed, as it does when the other process is gone.

    Parameters
    ----------
    connection
        End of a pipe.
    message
        Picklable object.

    Raises
    ------
    OSError
        The other end is closed.
    """
    connection.send_bytes(pickle.dumps(message))
