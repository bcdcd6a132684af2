"""Counters of the service in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter

_HELP = {
    "requests": "Requests by the status of their answer.",
    "scans": "Scans by model and outcome: done, refused, failed or cancelled.",
    "scan_seconds": "Seconds of work on scans by model.",
    "upload_bytes": "Bytes of requests that were read.",
}
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Counts:
    """Counters, each with values for sets of labels; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = Counter[tuple[str, tuple[tuple[str, str], ...]]]()

    def add(self, name: str, number: float = 1, **labels: str) -> None:
        """Add to a counter of `_HELP`."""
        with self._lock:
            self._values[name, (*labels.items(),)] += number  # type: ignore[assignment]

    def text(self, *, waiting: int) -> str:
        """Return all values, and the number of scans in the line now."""
        with self._lock:
            values = sorted(self._values.items())
        lines = [
            "# HELP sgmf_waiting Scans that wait or are worked on.",
            "# TYPE sgmf_waiting gauge",
            f"sgmf_waiting {waiting}",
        ]
        for name, explanation in _HELP.items():
            full = f"sgmf_{name}_total"
            lines += [f"# HELP {full} {explanation}", f"# TYPE {full} counter"]
            lines += [
                f"{full}{_labels(labels)} {value:g}"
                if isinstance(value, float)
                else f"{full}{_labels(labels)} {value}"
                for (found, labels), value in values
                if found == name
            ]
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    pairs = [f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels]
    return f"{{{','.join(pairs)}}}" if pairs else ""
