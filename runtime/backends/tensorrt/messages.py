"""Messages of TensorRT and TensorRT-RTX, kept for errors and for the builder's log."""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

from segmaformer.runtime.errors import BackendError

_NAMED = 3
"""Number of errors that a message repeats."""

_WITHOUT_CUDA = "CUDA initialization failure"
"""Message of TensorRT if it cannot start, whatever it returns."""


class Messages:
    """All messages, with the serious ones marked.

    Attributes
    ----------
    logger
        Logger of the module's own type, for its objects.
    lines
        Lines ``SEVERITY: text`` in order.
    """

    def __init__(self, trt: ModuleType):
        self._module = trt
        self.lines: list[str] = []
        self._errors: list[str] = []
        serious = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
        unimportant = trt.ILogger.Severity.VERBOSE
        lines, errors = self.lines, self._errors

        class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
            def log(self, severity: Any, text: str) -> None:
                # Called from native threads: any exception here would end the process.
                if severity == unimportant:
                    return
                lines.append(f"{severity.name}: {text}")
                if severity in serious:
                    errors.append(text.strip())

        self.logger = Listener()

    def start(self, kind: str) -> Any:
        """Make the module's ``Builder`` or ``Runtime``.

        Raises
        ------
        BackendError
            The object does not start on this machine; the message has the reason.
        """
        try:
            made = getattr(self._module, kind)(self.logger)
        except (TypeError, RuntimeError) as error:  # raised by the bindings for a null pointer
            raise BackendError(self._not_started(f" ({error})")) from error
        if any(_WITHOUT_CUDA in text for text in self._errors):
            # TensorRT 11.4 then returns an object at address 0x228: freeing it ends the process.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
            raise BackendError(self._not_started())
        return made

    def _not_started(self, reason: str = "") -> str:
        return (
            f"{self._module.__name__} {self._module.__version__} cannot start here: "
            f"{self.errors()}{reason}. Its CUDA may be newer than the driver: see sgmf doctor"
        )

    def errors(self) -> str:
        """Return the first errors since the last call, or a phrase that there were none."""
        named = "; ".join(self._errors[:_NAMED])
        self._errors.clear()
        return named or "it gave no reason"

    def text(self) -> str:
        """Return all lines, for a file."""
        return "\n".join(self.lines) + "\n"
