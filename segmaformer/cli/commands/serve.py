"""``sgmf serve``: segment DICOM series that come over the network, and send the results."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import say
from segmaformer.cli.package_parameters import PACKAGE_FOLDER, open_package, trust_options
from segmaformer.cli.parameters import (
    backend_option,
    device_option,
    memory_budget_option,
    threads_option,
)
from segmaformer.cli.segment_case import prepare_scan
from segmaformer.runtime.backends import BackendOptions, Device
from segmaformer.runtime.node.delivery import ApplicationEntity, Destination, WebService, is_title
from segmaformer.runtime.node.node import Node
from segmaformer.runtime.node.receiver import Peer, Receiver
from segmaformer.runtime.node.spool import Spool
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.results.dicom.segmentation_object import SegmentationType
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.system.extras import require_extra
from segmaformer.runtime.system.memory import MIB

Parsed = TypeVar("Parsed")


@click.command("serve")
@click.argument("package", type=PACKAGE_FOLDER)
@click.option("--aet", default="SGMF", show_default=True, help="Application entity title.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=11112,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--bind",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. One that other machines reach needs --peer.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="AET@ADDRESS",
    help="Machine that may send; repeat for several. Default: any that reaches the address.",
)
@click.option("--to", metavar="AET@HOST:PORT", help="Send results by C-STORE.")
@click.option("--stow", metavar="URL", help="Send results by STOW-RS: the address of the studies.")
@click.option(
    "--watch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to take files from as well; they are moved into the queue.",
)
@click.option(
    "--spool",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("sgmf-spool"),
    show_default=True,
    help="Private folder for the queue.",
)
@click.option(
    "--quiet",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time without a new image after which a series is complete.",
)
@click.option(
    "--segmentation-type",
    type=NamedChoice(get_args(SegmentationType)),
    default="binary",
    show_default=True,
    help="Type of the segmentations; binary if the receiver does not take labelmap.",
)
@click.option(
    "--most-images",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Largest number of images in the queue; beyond it senders are asked to try later.",
)
@click.option(
    "--most-mib",
    type=click.IntRange(1),
    default=65_536,
    show_default=True,
    metavar="MIB",
    help="Largest size of the queue in MiB; beyond it senders are asked to try later.",
)
@backend_option
@device_option
@threads_option
@memory_budget_option
@trust_options
def command(
    package: Path,
    aet: str,
    port: int,
    bind: str,
    peers: tuple[str, ...],
    to: str | None,
    stow: str | None,
    watch: Path | None,
    spool: Path,
    quiet: float,
    segmentation_type: SegmentationType,
    most_images: int,
    most_mib: int,
    backend: str,
    device: Device | None,
    threads: int | None,
    memory_budget: int | None,
) -> None:
    """Segment DICOM series that come over the network with PACKAGE, and send the results.

    Images are stored at once and answered. When a series is complete it is segmented, and the
    segmentation goes to --to or --stow. The queue survives a stop. A log of one JSON object per
    line goes to stderr; it holds no names, UIDs or dates.
    """
    require_extra("pynetdicom", "highdicom", "pydicom", extra="pacs")
    if not is_title(aet):
        raise click.UsageError(f"--aet {aet!r} is no title; expected 1 to 16 characters")
    allowed = [_parsed(_peer, each) for each in peers]
    _check_address(bind, allowed)
    destination = _destination(to, stow, aet)
    opened = open_package(package)
    _check_package(opened.manifest, segmentation_type)
    log = _logger()
    with ExitStack() as running:
        queue = Spool(spool, most_files=most_images, most_bytes=most_mib * MIB)
        running.callback(queue.close)
        predictor = Predictor(
            opened,
            backend,
            memory_budget_mib=memory_budget,
            options=BackendOptions(threads=threads, device=device),
            report=say,
        )
        node = Node(
            queue,
            lambda folder: _segment(predictor, folder),
            destination,
            log,
            kind=segmentation_type,
            quiet_seconds=quiet,
            watched=watch,
        )
        running.callback(node.tell_counts)
        receiver = Receiver(queue, aet, (bind, port), allowed, node.count)
        running.callback(receiver.close)
        log({"event": "listening", "port": receiver.port, "backend": predictor.backend})
        with suppress(KeyboardInterrupt):  # a stop is no failure
            node.run()


def _check_package(manifest: Manifest, segmentation_type: SegmentationType) -> None:
    channels = len(manifest.preprocessing.channels)
    if channels > 1:
        raise click.UsageError(
            f"{manifest.name} takes {channels} channels, and a series that comes is one; use "
            "sgmf infer, which takes a folder for each"
        )
    if segmentation_type == "labelmap" and manifest.output.regions:
        raise click.UsageError("the regions of the package overlap; leave --segmentation-type out")


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


def _destination(to: str | None, stow: str | None, aet: str) -> Destination:
    if (to is None) == (stow is None):
        raise click.UsageError("give one place for the results: --to AET@HOST:PORT or --stow URL")
    if to is not None:
        return _parsed(lambda text: ApplicationEntity.parse(text, aet), to)
    return _parsed(WebService.parse, stow or "")


def _check_address(bind: str, peers: list[Peer]) -> None:
    try:
        is_own = ipaddress.ip_address(bind).is_loopback
    except ValueError:
        raise click.UsageError(f"--bind {bind!r} is no IP address") from None
    if not is_own and not peers:
        raise click.UsageError(
            f"--bind {bind} lets other machines send; name those that may by --peer AET@ADDRESS"
        )


def _peer(text: str) -> Peer:
    title, at, address = text.rpartition("@")
    if not at or not is_title(title):
        raise ValueError(f"{text!r} is not of the form AET@ADDRESS, such as CT1@10.0.0.7")
    return Peer(title, str(ipaddress.ip_address(address)))


def _parsed(parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
