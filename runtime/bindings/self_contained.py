"""Check that a network holds all of its data and names no file and no address in memory."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.bindings.op_library import op_library

_REASON_BYTES = 512


def reason_to_refuse(model: bytes) -> str | None:
    """Return the reason not to open a serialised ONNX model; None if it holds all of its data.

    Libraries that read models follow the paths and addresses that tensors may name, so this
    comes before any of them sees the bytes. Tensors are looked at wherever they may stand:
    initialisers, sparse ones, attributes, graphs within graphs, functions, training graphs.

    Returns
    -------
    str or None
        Fit to follow the name of the file.

    Raises
    ------
    BackendError
        The installation carries no op library.
    MemoryError
        There is too little.
    """
    reason = np.zeros(_REASON_BYTES, np.uint8)
    found = op_library().sgmf_reason_to_refuse(model, len(model), reason, len(reason))
    if found < 0:
        raise MemoryError("a network cannot be looked through")
    return reason.tobytes().partition(b"\0")[0].decode(errors="replace") if found else None
