"""Entry point of ``sgmf``: the commands, loaded when asked for, and how a run ends."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

import segmaformer

_INTERRUPTED = 1

COMMANDS = {
    "bench": "Measure how fast a package runs here.",
    "build": "Build the engine of a package for a GPU.",
    "calibrate": "Add int8 variants to a package, from scans.",
    "check": "Say what is wrong or odd about scans.",
    "demo": "Export the bundled model and segment a template brain.",
    "doctor": "Show what this machine can run.",
    "export": "Turn a checkpoint into a verified package.",
    "infer": "Segment scans with a package.",
    "inspect": "Show what a package or a checkpoint is.",
    "list": "Show the networks that can be exported.",
    "verify": "Compare a package with its reference, or its variants on scans.",
}


class _LazyGroup(click.Group):
    """Imports a command when it is used, so that ``infer`` never loads PyTorch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"segmaformer.cli.{name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(segmaformer.__version__, prog_name="sgmf")
def cli() -> None:
    """From a Mamba segmentation checkpoint to a verified package, and from a scan to labels.

    Exit codes: 0 done, 1 failed, 2 usage, 3 input refused, 4 parity or integrity.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run ``sgmf`` and exit with its code.

    With ``--json`` among the arguments an error, too, is one JSON document on stdout,
    ``{"error": ..., "exit_code": ...}``, besides the message on stderr. A defect of the program
    shows its traceback after that.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        with _ended_by_sigterm():
            code = cli.main(args=arguments, prog_name="sgmf", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted", _INTERRUPTED, as_json)
    except click.ClickException as error:
        error.show(sys.stderr)
        _exit(error.format_message(), error.exit_code, as_json)
    except Exception as error:
        _fail_by(error, as_json)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, so that nothing unfinished stays behind.

    Schedulers and containers stop a run by it. Off the main thread signals are not ours.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail_by(error: Exception, as_json: bool) -> NoReturn:
    # Imported here, it does not lengthen the start, in which an interruption shows a traceback.
    from segmaformer.cli.exit_codes import EXPECTED_ERRORS, FAILED, exit_code, message_of

    if isinstance(error, EXPECTED_ERRORS):
        _fail(message_of(error), exit_code(error), as_json)
    if as_json:
        _print_failure(f"{type(error).__name__}: {error}", FAILED)
    raise error


def _fail(message: str, code: int, as_json: bool) -> NoReturn:
    click.echo(f"sgmf: {message}", err=True)
    _exit(message, code, as_json)


def _exit(message: str, code: int, as_json: bool) -> NoReturn:
    if as_json:
        _print_failure(message, code)
    sys.exit(code)


def _print_failure(message: str, code: int) -> None:
    click.echo(json.dumps({"error": message, "exit_code": code}, indent=2))
