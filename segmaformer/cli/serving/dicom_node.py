"""Options of the DICOM node, and the node that they describe."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.runtime.node.delivery import ApplicationEntity, Destination, WebService, is_title
from segmaformer.runtime.node.node import Log, Node
from segmaformer.runtime.node.receiver import Peer, Receiver
from segmaformer.runtime.node.spool import Spool
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.results.dicom.segments import SegmentationType
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.system.extras import require_extra
from segmaformer.runtime.system.memory import MIB

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class NodeOptions:
    """Values of the options, by their names."""

    aet: str
    port: int
    bind: str
    peers: tuple[str, ...]
    to: str | None
    stow: str | None
    watch: Path | None
    spool: Path
    quiet: float
    segmentation_type: SegmentationType
    most_images: int
    most_mib: int

    @property
    def wanted(self) -> bool:
        """True if there is a place for results."""
        return self.to is not None or self.stow is not None

    def check(self, manifest: Manifest) -> None:
        """Refuse what no node can be made of.

        Raises
        ------
        click.UsageError
            An option has another form, or the package does not suit.
        MissingExtraError
            What a node needs is not installed.
        """
        require_extra("pynetdicom", "highdicom", "pydicom", extra="pacs")
        if not is_title(self.aet):
            raise click.UsageError(f"--aet {self.aet!r} is no title; expected 1 to 16 characters")
        _check_address(self.bind, self._peers)
        self._destination()
        _check_package(manifest, self.segmentation_type)

    @contextmanager
    def open(self, segment: Callable[[Path], Segmentation], log: Log) -> Iterator[tuple[Node, int]]:
        """Open the node that `segment` works for; yield it and the port that it listens on."""
        with ExitStack() as running:
            queue = Spool(self.spool, most_files=self.most_images, most_bytes=self.most_mib * MIB)
            running.callback(queue.close)
            node = Node(
                queue,
                segment,
                self._destination(),
                log,
                kind=self.segmentation_type,
                quiet_seconds=self.quiet,
                watched=self.watch,
            )
            running.callback(node.tell_counts)
            address = (self.bind, self.port)
            receiver = Receiver(queue, self.aet, address, self._peers, node.count)
            running.callback(receiver.close)
            yield node, receiver.port

    @property
    def _peers(self) -> list[Peer]:
        return [_parsed(_peer, each) for each in self.peers]

    def _destination(self) -> Destination:
        if (self.to is None) == (self.stow is None):
            raise click.UsageError(
                "give one place for the results: --to AET@HOST:PORT or --stow URL"
            )
        if self.to is not None:
            return _parsed(lambda text: ApplicationEntity.parse(text, self.aet), self.to)
        return _parsed(WebService.parse, self.stow or "")


_OPTIONS = (
    click.option("--aet", default="SGMF", show_default=True, help="Application entity title."),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=11112,
        show_default=True,
        help="Port to listen on for DICOM; 0 takes a free one.",
    ),
    click.option(
        "--bind",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address to listen on for DICOM. One that other machines reach needs --peer.",
    ),
    click.option(
        "--peer",
        "peers",
        multiple=True,
        metavar="AET@ADDRESS",
        help="Machine that may send; repeat for several. Default: any that reaches the address.",
    ),
    click.option("--to", metavar="AET@HOST:PORT", help="Send results by C-STORE."),
    click.option(
        "--stow", metavar="URL", help="Send results by STOW-RS: the address of the studies."
    ),
    click.option(
        "--watch",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder to take files from as well; they are moved into the queue.",
    ),
    click.option(
        "--spool",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("sgmf-spool"),
        show_default=True,
        help="Private folder for the queue.",
    ),
    click.option(
        "--quiet",
        type=click.FloatRange(0.1, 3600),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Time without a new image after which a series is complete.",
    ),
    click.option(
        "--segmentation-type",
        type=NamedChoice(get_args(SegmentationType)),
        default="binary",
        show_default=True,
        help="Type of the segmentations; binary if the receiver does not take labelmap.",
    ),
    click.option(
        "--most-images",
        type=click.IntRange(1),
        default=100_000,
        show_default=True,
        metavar="N",
        help="Largest number of images in the queue; beyond it senders are asked to try later.",
    ),
    click.option(
        "--most-mib",
        type=click.IntRange(1),
        default=65_536,
        show_default=True,
        metavar="MIB",
        help="Largest size of the queue in MiB; beyond it senders are asked to try later.",
    ),
)


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the node, which the command gets as one argument `node`."""

    @functools.wraps(command)
    def with_node(*arguments: Any, **values: Any) -> Any:
        own = {name: values.pop(name) for name in NodeOptions.__dataclass_fields__}
        return command(*arguments, node=NodeOptions(**own), **values)

    for option in reversed(_OPTIONS):
        with_node = option(with_node)
    return with_node


def _check_package(manifest: Manifest, segmentation_type: SegmentationType) -> None:
    channels = len(manifest.preprocessing.channels)
    if channels > 1:
        raise click.UsageError(
            f"{manifest.name} takes {channels} channels, and a series that comes is one; use "
            "sgmf infer, which takes a folder for each"
        )
    if segmentation_type == "labelmap" and manifest.output.regions:
        raise click.UsageError("the regions of the package overlap; leave --segmentation-type out")


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
