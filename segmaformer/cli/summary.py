"""The summary of a batch: its file and its exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segmaformer.cli.console import versioned
from segmaformer.cli.exit_codes import DONE, REFUSED
from segmaformer.runtime.system.atomic import atomic_file


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON."""
    with atomic_file(path) as stream:
        stream.write(json.dumps(versioned(summary), indent=2).encode() + b"\n")


def batch_exit_code(results: Sequence[Mapping[str, Any]]) -> int:
    """Return the exit code of a batch: that of a refused scan before all others."""
    codes = {result.get("exit_code", DONE) for result in results}
    return REFUSED if REFUSED in codes else max(codes, default=DONE)
