"""Output of the command: results go to stdout, messages and progress to stderr.

All text for a terminal passes :func:`segmaformer.runtime.system.printable.printable` here.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import select
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from segmaformer.cli import exit_codes
from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.progress import Progress
from segmaformer.runtime.system import interruption
from segmaformer.runtime.system.printable import printable, printable_block

_LONGEST_LINE = 8192
SCHEMA_VERSION = 1
"""Version of sgmf.schema.json: it rises when a property goes or changes its meaning."""


class OutputError(SgmfError):
    """Failure to write the results to stdout."""


def say(message: str) -> None:
    """Print a message for people, on one line; it is lost if stderr is closed."""
    _echo_message(_shortened(printable(message)))


def show_over(text: str) -> None:
    """Show a text in place of the terminal's last line."""
    with contextlib.suppress(OSError):
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)


def say_usage(error: click.ClickException) -> None:
    """Print a usage error and the command's usage."""
    if not isinstance(error, click.exceptions.NoArgsIsHelpError):
        vars(error)["message"] = printable(error.message)
    shown = io.StringIO()
    error.show(shown)
    _echo_message(printable_block(shown.getvalue().rstrip("\n")))


def say_traceback(error: BaseException) -> None:
    """Print the traceback of a defect in the program."""
    *where, what = traceback.format_exception(error)
    _echo_message(printable_block("".join(where).rstrip("\n")))
    say(what.rstrip("\n"))


def _shortened(line: str) -> str:
    """Cut a line whose length others chose: names in files may be of any."""
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[:_LONGEST_LINE]} ... and {len(line) - _LONGEST_LINE} characters more"


def _echo_message(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def print_path(path: str | Path) -> None:
    """Print a path as a result: byte for byte, unless it would control a terminal.

    Bytes that are no valid text are printed if they are letters in other encodings; with
    ``--json`` every path can be read back exactly.
    """
    text = os.fspath(path)
    plain = "".join("" if "\udca0" <= each <= "\udcff" else each for each in text)
    _print(os.fsencode(path) if printable(plain) == plain else printable(text))


def print_line(text: str) -> None:
    """Print a line of results for people."""
    _print(_shortened(printable(text)))


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as results, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document as a result, with its version; sgmf.schema.json describes it."""
    _print(json.dumps(versioned(document), indent=2))  # in ASCII, with the rest escaped


def versioned(document: Mapping[str, Any]) -> dict[str, Any]:
    """Put the version of sgmf.schema.json before a document."""
    return {"schema_version": SCHEMA_VERSION, **document}


def print_json_line(document: Any) -> None:
    """Print a JSON document as a result on a line of its own, at once."""
    _print(json.dumps(document))
    with contextlib.suppress(OSError):
        sys.stdout.flush()


def print_failure(message: str, code: int) -> None:
    """Print the error that ended the run as a JSON document."""
    with contextlib.suppress(OutputError):
        _print(failure(message, code))


def failure(message: str, code: int) -> str:
    """Return the JSON document for an error that ended a run."""
    return json.dumps(versioned({"error": message, "exit_code": code}), indent=2)


def _print(text: str | bytes) -> None:
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        click.echo(text)
    except OSError as error:
        raise OutputError(f"cannot write the results to stdout: {error.strerror}") from error


def print_failures(results: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each scan of a batch that failed, and counts of all, for people."""
    failed = [result for result in results if "error" in result]
    names = [Path(result["scan"][0]).name for result in failed]
    width = max(map(len, names), default=0)
    for name, result in zip(names, failed, strict=True):
        say(f"{name:<{width}}  {_fate(result):<7}  {result['error']}")
    counts = Counter(map(_fate, results))
    say(", ".join(f"{count} {fate}" for fate, count in counts.items()))


def _fate(result: Mapping[str, Any]) -> str:
    if result.get("skipped"):
        return "skipped"
    if "error" in result:
        return "refused" if result["exit_code"] == exit_codes.REFUSED else "failed"
    return "done"


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a progress bar for each stage on stderr if that is a terminal."""
    bar: Any = None
    running: str | None = None

    def finish() -> None:
        if bar is not None:
            bar.__exit__(None, None, None)

    def show(stage: str, done: int, count: int) -> None:
        nonlocal bar, running
        interruption.check()
        if sys.stderr is None or not sys.stderr.isatty():
            return
        if stage != running:
            finish()
            shown = printable(f"{label}, {stage}")
            bar = click.progressbar(length=count, label=shown, file=sys.stderr)
            bar.__enter__()
            running = stage
        bar.update(done - bar.pos)

    try:
        yield show
    finally:
        finish()


def guard_streams() -> None:
    """Open the null device for each closed standard stream, so that no file takes its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def show_cursor() -> None:
    """Undo what a progress bar, which another thread draws, did to the terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        write_now(2, "\x1b[?25h\n")


def write_now(descriptor: int, text: str) -> None:
    """Write without waiting for locks: for a process that is about to end."""
    with contextlib.suppress(OSError):
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, text.encode())


def leave(code: int) -> NoReturn:
    """Exit with a code, or with an error message if stdout did not take all results."""
    if not _is_flushed(sys.stdout, 1) and code == exit_codes.DONE:
        say("sgmf: cannot write the results to stdout")
        code = exit_codes.FAILED
    _is_flushed(sys.stderr, 2)
    sys.exit(code)


def _is_flushed(stream: Any, descriptor: int) -> bool:
    """Tell if a stream was flushed; drop the rest otherwise, or Python would complain at exit."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
        return False
    return True
