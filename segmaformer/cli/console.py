"""What goes where: results to stdout, messages and progress to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.exit_codes import REFUSED
from segmaformer.runtime.progress import Progress


def say(message: str) -> None:
    """Print a message for people."""
    click.echo(message, err=True)


def print_path(path: str | Path) -> None:
    """Print a path as a result, byte for byte even where it is not valid text."""
    click.echo(os.fsencode(path))


def print_line(text: str) -> None:
    """Print a line of results for people."""
    click.echo(text)


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as results, their columns as wide as the widest entry."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())


def print_json(document: Any) -> None:
    """Print one JSON document as a result."""
    click.echo(json.dumps(document, indent=2))


def print_table(results: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each scan of a batch, and how many were done, for people."""
    rows = [(Path(result["scan"][0]).name, *_fate(result)) for result in results]
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, fate, remark in rows:
        say(f"{name:<{width}}  {fate:<7}  {remark}")
    counts = Counter(fate for _, fate, _ in rows)
    say(", ".join(f"{count} {fate}" for fate, count in counts.items()))


def _fate(result: Mapping[str, Any]) -> tuple[str, str]:
    if result.get("skipped"):
        return "skipped", "its results are there"
    if "error" in result:
        return "refused" if result["exit_code"] == REFUSED else "failed", result["error"]
    return "done", f"{sum(result['seconds'].values()):.1f} s"


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A progress bar for each stage on stderr where that is a terminal; nothing elsewhere."""
    bar: Any = None
    running: str | None = None

    def finish() -> None:
        if bar is not None:
            bar.__exit__(None, None, None)

    def show(stage: str, done: int, count: int) -> None:
        nonlocal bar, running
        if not sys.stderr.isatty():
            return
        if stage != running:
            finish()
            bar = click.progressbar(length=count, label=f"{label}, {stage}", file=sys.stderr)
            bar.__enter__()
            running = stage
        bar.update(done - bar.pos)

    try:
        yield show
    finally:
        finish()
