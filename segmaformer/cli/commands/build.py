"""``sgmf build``: build a GPU engine from a package."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import print_json, print_path, progress_bar, say
from segmaformer.cli.package_parameters import PACKAGE_FOLDER, open_package, trust_options
from segmaformer.cli.parameters import check_variants, json_option
from segmaformer.runtime.backends import (
    EVERYWHERE,
    ON_GPU,
    BackendOptions,
    first_variant,
    open_session,
)
from segmaformer.runtime.backends.self_test import shortcoming
from segmaformer.runtime.backends.tensorrt import library, rtx, rtx_build
from segmaformer.runtime.backends.tensorrt.rtx import open_rtx
from segmaformer.runtime.backends.tensorrt.tensorrt import open_tensorrt
from segmaformer.runtime.engines.cache import Engine, EngineCache
from segmaformer.runtime.errors import BackendError, ParityError
from segmaformer.runtime.package.manifest import EXACT_VARIANT, PREVIOUS_STAGE
from segmaformer.runtime.system.atomic import atomic_file, check_writable
from segmaformer.runtime.system.extras import require_extra

if TYPE_CHECKING:
    from segmaformer.export.engines.engine_build import BuiltEngine, EngineRequest

AUTO = "auto"
BUILDERS = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
"""Backends that need an engine, and the extra that each belongs to."""
OPENERS = {"tensorrt": open_tensorrt, "tensorrt-rtx": open_rtx}


@click.command("build")
@click.argument("package", type=PACKAGE_FOLDER)
@click.option(
    "--backend",
    type=NamedChoice([AUTO, *BUILDERS]),
    default=AUTO,
    show_default=True,
    help="Backend that will run the engine. auto is TensorRT, or TensorRT-RTX where only that can "
    "build, such as for a --target.",
)
@click.option(
    "--target",
    metavar="SM",
    help="GPU architecture to build for, such as sm86. Default: this machine's GPU.",
)
@click.option(
    "--variant",
    help="Variant to build, such as fp32 or fp16. Default: the backend's preferred one.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Largest number of tiles that the engine runs at once.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write the engine to, for use elsewhere. Default: the engine cache.",
)
@trust_options
@json_option
def command(
    package: Path,
    backend: str,
    target: str | None,
    variant: str | None,
    batch: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Build the GPU engine of PACKAGE that `sgmf infer --backend ...` runs.

    The engine is kept in ~/.cache/segmaformer/engines (or SGMF_CACHE) and is used only with this
    device, driver and version, after a self-test against the CPU.
    """
    if backend == AUTO:
        backend = _builder_here(target)
    require_extra("onnx", extra=BUILDERS[backend])
    from segmaformer.export.engines.engine_build import EngineRequest, builders

    opened = open_package(package)
    chosen = variant or first_variant(opened, ON_GPU)
    check_variants(opened.manifest, [chosen])
    log = _log_place(output, f"{opened.manifest.name}-{chosen}-{backend}")
    check_writable(output or log)
    request = EngineRequest(opened, chosen, batch, target)
    if opened.manifest.previous_stage is not None:
        say(f"the package is a cascade: build its first network too, {package / PREVIOUS_STAGE}")
    say(f"building {opened.manifest.name}, {chosen}, for batches of up to {batch}, with {backend}")
    with progress_bar(f"{opened.manifest.name}, {chosen}") as show:
        built = builders()[backend](
            request,
            progress=lambda done, count: show("building", done, count),
            keep_log=lambda text: _write(log, text.encode()),
        )
    say(f"built in {built.seconds:.1f} s; the builder's log: {log}")
    if output is None:
        path = _keep(built, request, backend)
    else:
        path = output
        _write(output, built.content)
        _write(_beside(output, "json"), json.dumps(_facts(built), indent=2).encode())
    if as_json:
        print_json({"engine": str(path), "package": str(package), **_facts(built)})
    else:
        print_path(path)


def _builder_here(target: str | None) -> str:
    """Choose the first backend that can build here, and say why another was passed over.

    Raises
    ------
    BackendError
        Neither can.
    """
    here = {"tensorrt": library.what_is_missing, "tensorrt-rtx": rtx.what_is_missing}
    elsewhere = {
        "tensorrt": lambda: "it builds for this machine alone",
        "tensorrt-rtx": rtx_build.what_is_missing,
    }
    for backend, obstacle in (elsewhere if target else here).items():
        if (reason := obstacle()) is None:
            return backend
        say(f"auto passes over {backend}: {reason}")
    raise BackendError(
        "no backend can build an engine here; install one, or take --backend tensorrt-rtx with the "
        "--target of another machine's GPU, such as sm86"
    )


def _keep(built: BuiltEngine, request: EngineRequest, backend: str) -> Path:
    """Put the engine into the cache; one for this machine only once it has passed its test.

    Until then an earlier engine of the same key stays in place, even if the test fails.
    """
    cache = EngineCache()
    if request.target is None:
        _test(built, request, backend)
    return cache.store(built.key, built.content, {"seconds": built.seconds})


def _test(built: BuiltEngine, request: EngineRequest, backend: str) -> None:
    """Compare the engine, run from the cache's format, with the CPU.

    Raises
    ------
    ParityError
        The engine's results differ from the CPU's.
    """
    options = BackendOptions()
    session = OPENERS[backend](
        request.package, request.variant, options, Engine(built.content, built.key, {})
    )
    found = shortcoming(
        request.package,
        session,
        lambda: open_session(request.package, backend=EVERYWHERE, variant=EXACT_VARIANT),
        exact=request.variant == EXACT_VARIANT,
    )
    if found is not None:
        raise ParityError(f"{session.description}: {found}; the engine was not kept")
    say(f"self-test passed: {session.description}")


def _log_place(output: Path | None, name: str) -> Path:
    """Return the file of the builder's log: beside `output`, or in the cache."""
    return EngineCache().path / f"{name}.log" if output is None else _beside(output, "log")


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(f"{output.name}.{suffix}")


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as stream:
        stream.write(content)


def _facts(built: BuiltEngine) -> dict[str, Any]:
    return {
        "bytes": len(built.content),
        "seconds": built.seconds,
        "key": dataclasses.asdict(built.key),
    }
