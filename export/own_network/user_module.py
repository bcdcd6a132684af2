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

from segmaformer.export.own_network.cpu_only import CpuOnly
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
    with _searching(folder), stand_in(), CpuOnly(), contextlib.redirect_stdout(sys.stderr):
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise InputError(_lacking(f"{module_name} cannot be imported", error)) from error
        except Exception as error:  # of the user's code, which may raise anything
            raise InputError(_failed(f"importing {module_name}", error)) from error
        report(f"running {factory} from {getattr(module, '__file__', None) or 'a built-in module'}")
        if not hasattr(module, name):
            raise InputError(f"{module_name} has no {name}")
        try:
            network = getattr(module, name)(**options)
        except ImportError as error:
            raise InputError(_lacking(f"{factory} imports what is not there", error)) from error
        except Exception as error:
            raise InputError(_failed(f"{factory}({arguments or ''})", error)) from error
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


def _lacking(what: str, error: ImportError) -> str:
    return f"{what}: {error}. Give the folder it lies in (--module-path), or install what it needs"


def _failed(what: str, error: Exception) -> str:
    return f"{what} fails: {type(error).__name__}: {error}"


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
