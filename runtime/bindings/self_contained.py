"""Check that a network holds all of its data and names no file and no address in memory."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.bindings.op_library import op_library

_REASON_BYTES = 512


def reason_to_refuse(model: bytes) -> str | None:
    """Return the reason not to open a serialised ONNX model; None if it holds all of its data.

    Libraries that read models follow the paths and addresses that tensors may name, so this check
    comes before any of them sees the bytes. Tensors are checked wherever they may be: in
    initialisers, sparse ones, attributes, graphs within graphs, functions, training graphs.

    Returns
    -------
    str or None
        Reason, worded to follow the name of the file.

    Raises
    ------
    BackendError
        The installation has no op library.
    MemoryError
        There is not enough memory.
    """
    reason = np.zeros(_REASON_BYTES, np.uint8)
    found = op_library().sgmf_reason_to_refuse(model, len(model), reason, len(reason))
    if found < 0:
        raise MemoryError("there is not enough memory to check a network")
    return reason.tobytes().partition(b"\0")[0].decode(errors="replace") if found else None
