"""What TensorRT and TensorRT-RTX say, kept for errors and for the builder's log."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from segmaformer.runtime.errors import BackendError

_NAMED = 3
"""Errors that a message repeats."""


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
            return getattr(self._module, kind)(self.logger)
        except (TypeError, RuntimeError) as error:  # what the bindings make of a null pointer
            raise BackendError(
                f"{self._module.__name__} {self._module.__version__} cannot start here: "
                f"{self.errors()} ({error}). Its CUDA may be newer than the driver: see sgmf doctor"
            ) from error

    def errors(self) -> str:
        """The first errors since the last call, or a word that there were none."""
        named = "; ".join(self._errors[:_NAMED])
        self._errors.clear()
        return named or "it gave no reason"

    def text(self) -> str:
        """All lines, for a file."""
        return "\n".join(self.lines) + "\n"
