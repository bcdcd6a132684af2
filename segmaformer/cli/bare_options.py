"""Options with a value that may be left out, as ``--resume`` and ``--resume=strict``."""

from __future__ import annotations

from typing import Any

import click


class BareOption(click.Option):
    """Option that takes a value behind ``=`` alone, or `bare` if it stands without one.

    So an argument behind it stays an argument; the command must be a
    :class:`CommandWithBareOptions`.
    """

    def __init__(self, *arguments: Any, bare: str, **options: Any):
        super().__init__(*arguments, **options)
        self.bare = bare


class CommandWithBareOptions(click.Command):
    """Command with options of :class:`BareOption`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each option that stands without a value the one that it then has."""
        bare = {
            name: parameter.bare
            for parameter in self.params
            if isinstance(parameter, BareOption)
            for name in parameter.opts
        }
        end = args.index("--") if "--" in args else len(args)
        named = [f"{each}={bare[each]}" if each in bare else each for each in args[:end]]
        return super().parse_args(ctx, [*named, *args[end:]])
