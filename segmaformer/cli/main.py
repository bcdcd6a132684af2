"""Entry point of ``sgmf``: the commands, loaded when asked for, and one exit code for each fate."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import segmaformer
from segmaformer.runtime.errors import InputError, PackageError, ParityError, SgmfError

FAILED, USAGE, REFUSED, UNVERIFIED = 1, 2, 3, 4

EXPECTED_ERRORS = (SgmfError, OSError, ValueError, MemoryError)
"""What ends a run with a message; anything else is a defect and shows its traceback."""

COMMANDS = {
    "demo": "Export the bundled model and segment a template brain.",
    "doctor": "Show what this machine can run.",
    "export": "Turn a checkpoint into a verified package.",
    "infer": "Segment scans with a package.",
    "inspect": "Show what a package or a checkpoint is.",
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


def main(arguments: list[str] | None = None) -> Any:
    """Run ``sgmf`` and exit with its code."""
    try:
        code = cli.main(args=arguments, prog_name="sgmf", standalone_mode=False)
    except click.exceptions.Abort:
        fail("interrupted", FAILED)
    except click.ClickException as error:
        error.show(sys.stderr)
        sys.exit(error.exit_code)
    except EXPECTED_ERRORS as error:
        fail(message_of(error), exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: BaseException) -> int:
    """The command's exit code for an error."""
    if isinstance(error, PackageError | ParityError):
        return UNVERIFIED
    if isinstance(error, InputError):
        return REFUSED
    return USAGE if isinstance(error, FileNotFoundError | FileExistsError) else FAILED


def message_of(error: BaseException) -> str:
    """The error's text; its type where it has none."""
    return str(error) or type(error).__name__


def fail(message: str, code: int) -> None:
    """Print `message` on stderr and exit."""
    click.echo(f"sgmf: {message}", err=True)
    sys.exit(code)
