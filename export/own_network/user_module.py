"""Building a network from code that the user names, and from nothing else."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from segmaformer.export.own_network.surroundings import Surroundings
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report


def build_module(
    factory: str,
    folder: Path | None,
    arguments: str | None,
    *,
    report: Report = lambda message: None,
) -> nn.Module:
    """Import a factory, run it and return its network.

    While it runs, it finds the :class:`segmaformer.export.own_network.surroundings.Surroundings`,
    and the current folder is not searched for modules unless it is given.

    Parameters
    ----------
    factory
        ``package.module:name`` of a class or function.
    folder
        Folder to search for it first, or None for installed packages alone.
    arguments
        JSON object of its keyword arguments, or None.
    report
        Called with a line of text that names the file whose code is run, and one if it asked for
        CUDA.

    Raises
    ------
    InputError
        No such module or name, malformed arguments, code that fails, or a result that is no
        PyTorch module.
    """
    module_name, colon, name = factory.partition(":")
    if not (module_name and colon and name):
        raise InputError(f"--module is {factory!r}; expected package.module:name")
    options = _options(arguments)
    around = Surroundings()
    with _searching(folder), around.entered():
        with _explained(f"importing {module_name}", around):
            module = importlib.import_module(module_name)
        report(f"running {factory} from {getattr(module, '__file__', None) or 'a built-in module'}")
        if not hasattr(module, name):
            raise InputError(f"{module_name} has no {name}")
        with _explained(f"{factory}({arguments or ''})", around):
            network = getattr(module, name)(**options)
    if around.asked_for_cuda:
        report(f"{module_name} asked for CUDA, and the CPU answered")
    if not isinstance(network, nn.Module):
        raise InputError(f"{factory} gives a {type(network).__name__}; expected a torch.nn.Module")
    return network


def _options(arguments: str | None) -> dict[str, Any]:
    try:
        options = json.loads(arguments or "{}")
    except ValueError as error:
        raise InputError(f"--module-args is not JSON: {error}") from None
    if not isinstance(options, dict):
        raise InputError(f'--module-args is {arguments}; expected an object such as {{"a": 1}}')
    return options


@contextlib.contextmanager
def _explained(what: str, around: Surroundings) -> Iterator[None]:
    """Say what the user's code did when it failed, or ended the program."""
    try:
        yield
    except (Exception, SystemExit) as error:  # of the user's code, which may raise anything
        message = f"{what} fails: {around.explain(error)}"
        if isinstance(error, ImportError):
            message += ". Give the folder it lies in (--module-path), or install what it needs"
        raise InputError(message) from error


@contextlib.contextmanager
def _searching(folder: Path | None) -> Iterator[None]:
    """Search `folder` and installed packages for modules, and not the current folder."""
    before = list(sys.path)
    here = {"", ".", str(Path.cwd())}
    sys.path[:] = [] if folder is None else [str(folder.resolve())]
    sys.path += [entry for entry in before if entry not in here]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
