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

from segmaformer.checkpoint.fields import listing
from segmaformer.export.own_network.cpu_only import CpuOnly
from segmaformer.export.user_line import user_line
from segmaformer.mamba import stand_in
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

    While it runs, ``mamba_ssm`` and ``causal_conv1d`` are this project's own, CUDA devices are the
    CPU, what it prints goes to standard error, and the current folder is not searched for modules
    unless it is given.

    Parameters
    ----------
    factory
        ``package.module:name`` of a class or function.
    folder
        Folder to search for it first, or None for installed packages alone.
    arguments
        JSON object of its keyword arguments, or None.
    report
        Called with a line of text that names the file whose code is run.

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
    with (
        _searching(folder),
        stand_in() as missing,
        CpuOnly(),
        contextlib.redirect_stdout(sys.stderr),
    ):
        with _explained(f"importing {module_name}", missing):
            module = importlib.import_module(module_name)
        report(f"running {factory} from {getattr(module, '__file__', None) or 'a built-in module'}")
        if not hasattr(module, name):
            raise InputError(f"{module_name} has no {name}")
        with _explained(f"{factory}({arguments or ''})", missing):
            network = getattr(module, name)(**options)
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
def _explained(what: str, missing: list[str]) -> Iterator[None]:
    """Say what the user's code did when it failed, and which names of mamba_ssm it lacked."""
    try:
        yield
    except Exception as error:  # of the user's code, which may raise anything
        message = f"{what} fails: {type(error).__name__}: {error}{user_line(error)}"
        if missing:
            names = listing(missing)
            message += f". It asks for {names}, which this project's stand-in does not have"
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
