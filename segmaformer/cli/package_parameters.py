"""Parameters that name a package: by its path, or by its name in the store of models."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import say
from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.store import ModelStore, StoredModel, is_model_name
from segmaformer.runtime.scans.file_kinds import START_BYTES, file_kind

SHOWN_DIGITS = 12
"""Digits of a SHA-256 that are shown to people."""
MODEL_VARIABLE = "SGMF_MODEL"
"""Environment variable that names the package."""


def stored_model(text: str) -> StoredModel | None:
    """Return the model that a text names, checked; None if it is a path or names no model.

    A path that exists wins; if a model has the same name, a message says so.
    """
    if not is_model_name(text):
        return None
    if os.path.lexists(text):
        with suppress(SgmfError, OSError):
            if _is_kept(ModelStore.existing(), text):
                say(f"{text} is a path here, so the model of that name is not used")
        return None
    store = ModelStore.existing()
    if store is None or not _is_kept(store, text):
        return None
    return store.find(text)


def _is_kept(store: ModelStore | None, name: str) -> bool:
    return store is not None and any(model.name == name for model in store.models())


def _tell(model: StoredModel, how: str = "") -> Path:
    """Say which model is used, and return its path."""
    say(f"model: {model.name}, {model.manifest_sha256[:SHOWN_DIGITS]}{how}")
    return model.path


class PackagePath(click.Path):
    """Path that must exist, or the name of a model in the store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path of a model, or else the path that was given."""
        text = os.fsdecode(value)
        model = stored_model(text)
        if model is not None:
            return _tell(model)
        if is_model_name(text) and not os.path.lexists(text):
            self.fail(
                f"{text} does not exist here, and no model has that name; `sgmf models list` "
                "shows those that you have",
                param,
                ctx,
            )
        return Path(os.fsdecode(super().convert(value, param, ctx)))


class _PackageFolder(PackagePath):
    """Path or name of a package; the error for a file names the kind of file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.is_file():
            with path.open("rb") as file:
                kind = file_kind(file.read(START_BYTES))
            named = f"{kind.name}. {kind.advice}" if kind else "a file"
            hint = f": sgmf export {path}" if kind and "checkpoint" in kind.advice else ""
            self.fail(f"expected the folder of a package, and {path} is {named}{hint}", param, ctx)
        return super().convert(value, param, ctx)


PACKAGE_FOLDER = _PackageFolder(exists=True, file_okay=False, path_type=Path)


def _chosen() -> Path:
    """Return the package of the chosen model."""
    store = ModelStore.existing()
    name = None if store is None else store.chosen_name()
    if store is None or name is None:
        raise click.UsageError(
            "no model is chosen; add one with `sgmf models add PACKAGE`, or name one with "
            "-m/--model"
        )
    return _tell(store.find(name), ", the chosen one")


def _all_or_chosen(
    context: click.Context, parameter: click.Parameter, value: tuple[Path, ...]
) -> tuple[Path, ...]:
    """Return the packages that were named, or the one of the environment, or the chosen one."""
    named = os.environ.get(MODEL_VARIABLE)
    if value or not named:
        return value or (_chosen(),)
    return (PACKAGE_FOLDER.convert(named, parameter, context),)


def model_name(package: Path, name: str | None) -> str:
    """Return the name that was given for a package, or else that of its folder without ``.sgmf``.

    Raises
    ------
    click.UsageError
        It cannot name a model.
    """
    name = package.resolve().name.removesuffix(".sgmf") if name is None else name
    if not is_model_name(name):
        raise click.UsageError(
            f"{name!r:.80} cannot name a model; give --name with up to 64 letters, digits, '.', "
            "'_' and '-', and none of '.' and '-' first"
        )
    return name


def open_package(path: Path) -> Package:
    """Open a package, and say so if nobody is known to have signed it."""
    package = Package.open(path)
    if package.signer is None:
        say(f"{path.name}: you trust no key, so its signature was not checked; see: sgmf trust")
    return package


def _setting(variable: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that sets a variable of the environment, for child processes as well."""

    def set_variable(_context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:
            os.environ[variable] = "1" if value is True else os.fspath(value)

    return set_variable


_trust_option = click.option(
    "--trust",
    type=click.Path(exists=True, path_type=Path),
    expose_value=False,
    callback=_setting("SGMF_TRUST"),
    metavar="FILE",
    help="Key to trust besides those of the key rings, or a folder of keys. Default: the "
    "environment variable SGMF_TRUST.",
)
_require_signature_option = click.option(
    "--require-signature",
    is_flag=True,
    expose_value=False,
    callback=_setting("SGMF_REQUIRE_SIGNATURE"),
    help="Refuse every package if you trust no key; so does SGMF_REQUIRE_SIGNATURE=1.",
)


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about signatures, which hold for all packages that the command opens."""
    return _trust_option(_require_signature_option(command))


models_option = click.option(
    "-m",
    "--model",
    "models",
    type=PACKAGE_FOLDER,
    multiple=True,
    callback=_all_or_chosen,
    help="Package to use, or the name of a model in the store; a path that exists wins. Repeat to "
    "average the probabilities of several packages. Default: the environment variable SGMF_MODEL, "
    "then the model that `sgmf models use` chose.",
)
