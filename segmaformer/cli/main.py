"""Entry point of ``sgmf``: loads commands on demand and turns their end into an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from segmaformer.cli import console
from segmaformer.cli.choices import did_you_mean
from segmaformer.cli.imports import without
from segmaformer.cli.interruption import ending_on_signals
from segmaformer.runtime.system.unfinished import discard_all

_INTERRUPTED = 1

COMMANDS = {
    "bench": "Measure how fast a package runs here.",
    "build": "Build the engine of a package for a GPU.",
    "calibrate": "Add int8 variants to a package, calibrated on scans.",
    "check": "Report what is wrong or odd about scans.",
    "demo": "Export the bundled model and segment a template brain.",
    "doctor": "Show what this machine can run.",
    "export": "Turn a checkpoint into a verified package.",
    "export-triton": "Write a model repository for Triton that serves a package.",
    "infer": "Segment scans with a package.",
    "inspect": "Show the contents of a package or checkpoint.",
    "keygen": "Make a pair of keys to sign packages with.",
    "list": "Show the networks that can be exported.",
    "merge": "Join the summaries of a batch's parts.",
    "models": "Keep packages under names, and choose one for infer.",
    "serve": "Segment scans that come over the network, by HTTP or DICOM.",
    "series": "List the DICOM series of a folder.",
    "sign": "Sign a package.",
    "trust": "Show and change the keys whose signatures you trust.",
    "verify": "Compare a package with its reference, or its variants on scans.",
}


class _LazyGroup(click.Group):
    """Command group that imports a command on use, so that ``infer`` never loads PyTorch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and (question := did_you_mean(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}.{question}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        with without("pydicom"):
            file = name.replace("-", "_")
            module = importlib.import_module(f"segmaformer.cli.commands.{file}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=what)
            for name, what in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segmaformer", prog_name="sgmf")
def cli() -> None:
    """Export segmentation networks to verified packages, and segment scans with them.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 input refused, 4 parity or integrity failure.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run ``sgmf`` and exit with its code.

    With ``--json`` among the arguments an error is also printed to stdout as one JSON document,
    ``{"error": ..., "exit_code": ...}``, besides the message on stderr. A defect of the program
    shows its traceback as well. SIGINT and SIGTERM end the run within seconds.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    console.guard_streams()
    with ending_on_signals(lambda: _give_up(as_json)):
        code = _run(arguments, as_json)
    console.leave(code)


def _run(arguments: list[str], as_json: bool) -> int:
    """Run a command and return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="sgmf", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail("interrupted", _INTERRUPTED, as_json)
    except click.ClickException as error:
        console.say_usage(error)
        return _end(error.format_message(), error.exit_code, as_json)
    except SystemExit as error:  # raised by click if the reader of stdout left early
        code = error.code
    except Exception as error:
        return _fail_by(error, as_json)
    return code if isinstance(code, int) else 0


def _give_up(as_json: bool) -> NoReturn:
    """End the process from a thread other than the working one."""
    discard_all()
    console.show_cursor()
    console.write_now(2, "sgmf: interrupted\n")
    if as_json:
        console.write_now(1, console.failure("interrupted", _INTERRUPTED) + "\n")
    os._exit(_INTERRUPTED)


def _fail_by(error: Exception, as_json: bool) -> int:
    # Imported here to keep the start short.
    from segmaformer.cli.exit_codes import EXPECTED_ERRORS, FAILED, exit_code, message_of

    if isinstance(error, console.OutputError):
        # stdout did not take the results, so it will not take a JSON error either.
        return _fail(str(error), FAILED, False)
    if isinstance(error, EXPECTED_ERRORS):
        return _fail(message_of(error), exit_code(error), as_json)
    console.say_traceback(error)
    return _end(f"{type(error).__name__}: {error}", FAILED, as_json)


def _fail(message: str, code: int, as_json: bool) -> int:
    console.say(f"sgmf: {message}")
    return _end(message, code, as_json)


def _end(message: str, code: int, as_json: bool) -> int:
    if as_json:
        console.print_failure(message, code)
    return code
