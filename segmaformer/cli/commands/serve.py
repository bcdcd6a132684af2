"""``sgmf serve``: segment scans that come over the network, by DICOM or HTTP."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import say
from segmaformer.cli.interruption import first_signal_calls
from segmaformer.cli.package_parameters import PACKAGE_FOLDER, open_package, trust_options
from segmaformer.cli.parameters import (
    backend_option,
    device_option,
    memory_budget_option,
    threads_option,
)
from segmaformer.cli.segment_case import prepare_scan
from segmaformer.cli.serving.dicom_node import NodeOptions, node_options
from segmaformer.cli.serving.http_service import HttpOptions, http_options
from segmaformer.runtime.backends import BackendOptions, Device
from segmaformer.runtime.node.node import Node
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.progress import Progress, Report
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.service.line import Line
from segmaformer.runtime.service.models import Model
from segmaformer.runtime.system.interruption import check

_LOOK_SECONDS = 0.2


@click.command("serve")
@click.argument(
    "packages", nargs=-1, required=True, type=PACKAGE_FOLDER, metavar="PACKAGE [PACKAGE]..."
)
@http_options
@node_options
@backend_option
@device_option
@threads_option
@memory_budget_option
@trust_options
def command(
    packages: tuple[Path, ...],
    http: HttpOptions,
    node: NodeOptions,
    backend: str,
    device: Device | None,
    threads: int | None,
    memory_budget: int | None,
) -> None:
    """Segment scans that come over the network with PACKAGE, one after the other.

    With --http, requests bring scans of any format and are answered with the result; several
    packages are told apart by the names of their folders. With --to or --stow, DICOM series come
    by C-STORE, are segmented when they are complete, and the segmentation is sent on. A log of one
    JSON object per line goes to stderr; it holds no names of patients, UIDs or dates.
    """
    opened = {path.name.removesuffix(".sgmf"): open_package(path) for path in packages}
    _check(http, node, packages, opened)
    log = _logger()
    with ExitStack() as running:
        predictors = {
            name: Predictor(
                package,
                backend,
                memory_budget_mib=memory_budget,
                options=BackendOptions(threads=threads, device=device),
                report=say,
            )
            for name, package in opened.items()
        }
        line = Line(http.most_waiting)
        running.callback(line.close)
        first = next(iter(predictors.values()))
        dicom_node = None
        if node.wanted:
            segment = functools.partial(_segment_in_line, line, first)
            dicom_node, port = running.enter_context(node.open(segment, log))
            log({"event": "listening", "port": port, "backend": first.backend})
        with suppress(KeyboardInterrupt):  # a stop is no failure
            _run(http, dicom_node, predictors, line, log)


def _check(
    http: HttpOptions, node: NodeOptions, packages: Sequence[Path], opened: dict[str, Any]
) -> None:
    if not http.wanted and not node.wanted:
        raise click.UsageError(
            "give an address for requests, --http HOST:PORT, or a place for the results of DICOM "
            "series, --to AET@HOST:PORT or --stow URL"
        )
    if len(opened) < len(packages):
        raise click.UsageError("two packages have one name; rename the folder of one")
    if http.wanted:
        http.check()
    if node.wanted:
        if len(packages) > 1:
            raise click.UsageError(
                "DICOM series are segmented with one package; name one, or leave out --to"
            )
        (package,) = opened.values()
        node.check(package.manifest)


def _run(
    http: HttpOptions,
    node: Node | None,
    predictors: dict[str, Predictor],
    line: Line,
    log: Callable[[dict[str, Any]], None],
) -> None:
    """Serve until a signal; with HTTP, answer what has come first."""
    stop = threading.Event()
    with ExitStack() as running:
        server = None
        if http.wanted:
            models = {name: _model(name, each) for name, each in predictors.items()}
            service, server = running.enter_context(http.open(models, line, log))
            running.enter_context(first_signal_calls(stop.set))
            log({"event": "listening", "http": server.port, "models": len(models)})
        if node is not None:
            node.run(stop)
        while not stop.wait(_LOOK_SECONDS):
            check()
        if server is not None:
            service.ending = True
            log({"event": "ending", "waiting": line.taken})
            server.drain(check)


def _model(name: str, predictor: Predictor) -> Model:
    def segment(
        files: list[Path],
        *,
        dicom: bool,
        warn: Report,
        progress: Progress,
        cancel: threading.Event,
    ) -> Segmentation:
        prepared = prepare_scan(predictor, files, warn, dicom=dicom)
        return predictor.segment(prepared, progress=progress, cancel=cancel)

    package = predictor.package
    return Model(name, package.manifest, package.manifest_sha256, segment)


def _segment_in_line(line: Line, predictor: Predictor, folder: Path) -> Segmentation:
    return line.submit(lambda: _segment(predictor, folder)).result()


def _segment(predictor: Predictor, folder: Path) -> Segmentation:
    # What a warning says may come from the files.
    prepared = prepare_scan(predictor, [folder], lambda _: None, dicom=True)
    return predictor.segment(prepared)


def _logger() -> Callable[[dict[str, Any]], None]:
    """Return a function that logs an event with the seconds since now."""
    start = time.monotonic()

    def log(event: dict[str, Any]) -> None:
        say(json.dumps({"seconds_up": round(time.monotonic() - start, 3), **event}))

    return log
