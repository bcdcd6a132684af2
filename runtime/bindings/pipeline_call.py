"""Calls of the native pipeline, whose failures become the runtime's errors."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from segmaformer.runtime.bindings.callbacks import Callbacks
from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.bindings.structs import Failure
from segmaformer.runtime.errors import (
    BackendError,
    BudgetError,
    CancelledError,
    GeometryError,
    InputError,
)
from segmaformer.runtime.spec import (
    Normalization,
    Output,
    Preprocessing,
    PreviousStage,
    Resampling,
    Tiling,
)
from segmaformer.runtime.system.interruption import signals_deferred

_BUDGET, _CALLBACK = 4, 8
_ERRORS: dict[int, type[Exception]] = {
    1: ValueError,
    2: InputError,
    3: GeometryError,
    5: BackendError,
    6: CancelledError,
    7: MemoryError,
}


def as_json(
    spec: Preprocessing | Normalization | Resampling | Tiling | Output | PreviousStage,
) -> bytes:
    """Specification as a manifest spells it, which is how the native pipeline takes it.

    Raises
    ------
    ValueError
        A number is NaN or infinite.
    """
    return json.dumps(dataclasses.asdict(spec), allow_nan=False).encode()


def call(name: str, *args: Any, callbacks: Callbacks | None = None) -> None:
    """Call a function of ``python/pipeline.h`` with all its arguments but the last.

    Parameters
    ----------
    name, args
        Name of the function, and its arguments.
    callbacks
        Maker of the callbacks among them; an error in a callback is raised here.

    Raises
    ------
    ValueError, InputError, GeometryError, BudgetError, BackendError, CancelledError, MemoryError
        As reported by the function.
    KeyboardInterrupt
        A signal arrived during the call; callbacks notice it in :func:`interruption.check`.
    """
    failure = Failure()
    function = getattr(op_library(), name)
    callbacks = callbacks or Callbacks()
    with signals_deferred(), callbacks.in_call():
        code = function(*args, failure)
    message = failure.message.decode(errors="replace")
    if code == _CALLBACK:
        callbacks.raise_first()
    if code == _BUDGET:
        raise BudgetError(message, failure.budget_bytes, failure.least_bytes)
    if code:
        raise _ERRORS[code](message)
