"""``sgmf models``: keep packages under names, and choose the one that ``infer`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import print_json, print_path, print_rows, say
from segmaformer.cli.exit_codes import DONE, UNVERIFIED, message_of
from segmaformer.cli.package_parameters import SHOWN_DIGITS, model_name, trust_options
from segmaformer.cli.parameters import EXISTING_FOLDER, json_option
from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.store import ModelStore, StoredModel


@click.group("models")
def command() -> None:
    """Keep packages under names, and choose the one that `sgmf infer` takes without -m.

    Every command that takes the path of a package takes such a name as well. The store is the
    folder SGMF_MODELS, by default segmaformer/models in your XDG data folder
    (~/.local/share); only you may be able to write it.
    """


@command.command("add")
@click.argument("package", type=EXISTING_FOLDER)
@click.option("--name", help="Name of the model. Default: that of the folder, without .sgmf.")
@click.option("--replace", is_flag=True, help="Replace an earlier model of that name.")
@trust_options
def _add(package: Path, name: str | None, replace: bool) -> None:
    """Copy PACKAGE into the store, and check every byte.

    The first model that you add becomes the chosen one.
    """
    name = model_name(package, name)
    print_path(add_model(ModelStore(), package, name, replace=replace).path)


def add_model(store: ModelStore, package: Path, name: str, *, replace: bool) -> StoredModel:
    """Add a package to the store, choose it if no model is chosen, and tell of both."""
    model = store.add(package, name, replace=replace)
    say(f"added {name}, {model.manifest_sha256[:SHOWN_DIGITS]}, to {store.path}")
    chosen = store.chosen_name()
    if chosen is None:
        store.choose(name)
        say(f"{name} is the chosen model: sgmf infer takes it without -m")
    elif chosen != name:
        say(f"{chosen} stays the chosen model; to change that: sgmf models use {name}")
    return model


@command.command("list")
@json_option
def _list(as_json: bool) -> int:
    """List the models, and mark the chosen one by an asterisk.

    A model that changed in the store is named with the reason, and the exit code is 4.
    """
    store = ModelStore.existing()
    chosen = None if store is None else store.chosen_name()
    models = [] if store is None else store.models()
    problems = [_problem(model) for model in models]
    if as_json:
        rows = [_facts(*each, chosen) for each in zip(models, problems, strict=True)]
        print_json({"store": None if store is None else str(store.path), "models": rows})
    elif models:
        print_rows([_row(*each, chosen) for each in zip(models, problems, strict=True)])
    else:
        say("there are no models; add one with: sgmf models add PACKAGE")
    return UNVERIFIED if any(problems) else DONE


def _problem(model: StoredModel) -> str | None:
    try:
        model.check()
    except (PackageError, OSError) as error:
        return message_of(error)
    return None


def _row(model: StoredModel, problem: str | None, chosen: str | None) -> tuple[str, ...]:
    mark = "*" if model.name == chosen else " "
    return mark, model.name, model.manifest_sha256[:SHOWN_DIGITS], problem or ""


def _facts(model: StoredModel, problem: str | None, chosen: str | None) -> dict[str, Any]:
    return {
        "name": model.name,
        "chosen": model.name == chosen,
        "manifest_sha256": model.manifest_sha256,
        "path": str(model.path),
        "problem": problem,
    }


@command.command("use")
@click.argument("name")
def _use(name: str) -> None:
    """Choose the model NAME for `sgmf infer` without -m."""
    model = ModelStore().choose(name)
    say(f"{name}, {model.manifest_sha256[:SHOWN_DIGITS]}, is the chosen model")


@command.command("remove")
@click.argument("name")
def _remove(name: str) -> None:
    """Remove the model NAME from the store."""
    store = ModelStore()
    was_chosen = store.chosen_name() == name
    store.remove(name)
    say(f"removed {name}" + ("; no model is chosen now" if was_chosen else ""))
