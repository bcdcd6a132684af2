"""``sgmf list``: list the networks that can be exported."""

from __future__ import annotations

import click

from segmaformer.cli.console import print_json, print_line
from segmaformer.cli.parameters import json_option
from segmaformer.runtime.system.extras import require_extra


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """Show the networks that can be exported, and their published configurations."""
    require_extra("torch", extra="export")
    from segmaformer.models import list_models, list_presets

    networks = {name: list_presets(name) for name in list_models()}
    if as_json:
        print_json({"networks": networks})
        return
    width = max(map(len, networks))
    for name, presets in networks.items():
        print_line(f"{name:<{width}}  {', '.join(presets)}".rstrip())
