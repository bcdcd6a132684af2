"""What TensorRT and TensorRT-RTX say, kept for errors and for the builder's log."""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

from segmaformer.runtime.errors import BackendError

_NAMED = 3
"""Errors that a message repeats."""

_WITHOUT_CUDA = "CUDA initialization failure"
"""What TensorRT says where it cannot start, whatever it returns."""


class Messages:
    """Everything that was said, and where it was serious.

    Attributes
    ----------
    logger
        Of the module's own type, to be given to its objects.
    lines
        ``SEVERITY: text`` in order.
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
                # Called from native threads: anything raised here would end the process.
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
            It does not start on this machine, with its reason.
        """
        try:
            made = getattr(self._module, kind)(self.logger)
        except (TypeError, RuntimeError) as error:  # what the bindings make of a null pointer
            raise BackendError(self._not_started(f" ({error})")) from error
        if any(_WITHOUT_CUDA in text for text in self._errors):
            # TensorRT 11.4 gives an object at address 0x228 then: freeing it would end the process.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
            raise BackendError(self._not_started())
        return made

    def _not_started(self, reason: str = "") -> str:
        return (
            f"{self._module.__name__} {self._module.__version__} cannot start here: "
            f"{self.errors()}{reason}. Its CUDA may be newer than the driver: see sgmf doctor"
        )

    def errors(self) -> str:
        """The first errors since the last call, or a word that there were none."""
        named = "; ".join(self._errors[:_NAMED])
        self._errors.clear()
        return named or "it gave no reason"

    def text(self) -> str:
        """All lines, for a file."""
        return "\n".join(self.lines) + "\n"
