"""Receiving and sending over the network of this machine, with pynetdicom as the other side."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pydicom = pytest.importorskip("pydicom")
pynetdicom = pytest.importorskip("pynetdicom")

from support.scans.ct_series import MARKS, write_ct_series

from segmaformer.runtime.node.delivery import ApplicationEntity, Outcome, WebService
from segmaformer.runtime.node.receiver import Peer, Receiver
from segmaformer.runtime.node.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", most_files=4, most_bytes=2**20)
    yield spool
    spool.close()


@contextmanager
def receiver(spool: Spool, *peers: Peer, title: str = "SGMF") -> Iterator[tuple[int, Any]]:
    counts = Counter[str]()
    running = Receiver(spool, title, ("127.0.0.1", 0), peers, lambda event: counts.update([event]))
    try:
        yield running.port, counts
    finally:
        running.close()


def send(port: int, files: list[Path], *, own: str = "CT1", called: str = "SGMF") -> list[int]:
    """Send files and return the statuses; none if the association is rejected."""
    entity = pynetdicom.AE(ae_title=own)
    entity.add_requested_context(CT, pydicom.uid.ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    found = [association.send_c_store(pydicom.dcmread(path)).Status for path in files]
    association.release()
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return sorted(write_ct_series(tmp_path / "ct").iterdir())


def test_images_are_stored_until_there_is_no_room(spool: Spool, files: list[Path]) -> None:
    with receiver(spool) as (port, counts):
        assert send(port, files) == [0, 0, 0, 0, 0xA700, 0xA700]
    assert counts == {"received": 4, "no room": 2}
    for stored, sent in zip(spool.arrivals(), files, strict=False):
        assert pydicom.dcmread(stored) == pydicom.dcmread(sent)
        assert MARKS["PatientID"] not in stored.name


@pytest.mark.parametrize(
    ("own", "called", "taken"),
    [("CT1", "SGMF", True), ("CT2", "SGMF", False), ("CT1", "OTHER", False)],
)
def test_only_peers_that_call_the_right_title_may_send(
    spool: Spool, files: list[Path], own: str, called: str, taken: bool
) -> None:
    with receiver(spool, Peer("CT1", "127.0.0.1")) as (port, _):
        assert send(port, files[:1], own=own, called=called) == ([0] if taken else [])
    assert len(spool.arrivals()) == taken


def test_a_peer_of_another_address_is_turned_away(spool: Spool, files: list[Path]) -> None:
    with receiver(spool, Peer("CT1", "10.0.0.7")) as (port, counts):
        assert send(port, files[:1]) == [0x0124]
    assert counts == {"turned away": 1}
    assert spool.arrivals() == []


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "@host:104", "PACS@host:x", "P" * 17])
def test_a_destination_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form AET@HOST:PORT"):
        ApplicationEntity.parse(text, "SGMF")


def test_a_result_is_sent_by_c_store(spool: Spool, files: list[Path]) -> None:
    with receiver(spool, title="PACS") as (port, _):
        there = ApplicationEntity.parse(f"PACS@127.0.0.1:{port}", "SGMF")
        assert there.send(files[0]) is Outcome.DELIVERED
    assert pydicom.dcmread(spool.arrivals()[0]) == pydicom.dcmread(files[0])


def test_fates_of_c_store(spool: Spool, files: list[Path]) -> None:
    with receiver(spool, title="PACS") as (port, _):
        other = ApplicationEntity("SGMF", "OTHER", "127.0.0.1", port)
        assert other.send(files[0]) is Outcome.REJECTED
        full = ApplicationEntity("SGMF", "PACS", "127.0.0.1", port)
        found = [full.send(path) for path in files[:5]]
        assert found == [*[Outcome.DELIVERED] * 4, Outcome.LATER]
    assert full.send(files[0]) is Outcome.LATER


def test_a_class_that_is_not_known_is_told(files: list[Path]) -> None:
    entity = pynetdicom.AE(ae_title="PACS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        there = ApplicationEntity("SGMF", "PACS", "127.0.0.1", server.server_address[1])
        assert there.send(files[0]) is Outcome.UNKNOWN_CLASS
    finally:
        server.shutdown()


@contextmanager
def web_service(status: int) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    got: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            got.append((self.headers["Content-Type"], self.rfile.read(length)))
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/studies", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (302, Outcome.REFUSED),
        (409, Outcome.REFUSED),
        (503, Outcome.LATER),
    ],
)
def test_a_result_is_sent_by_stow(status: int, outcome: Outcome, files: list[Path]) -> None:
    with web_service(status) as (url, got):
        assert WebService.parse(url).send(files[0]) is outcome
    ((kind, body),) = got
    assert kind.startswith('multipart/related; type="application/dicom"; boundary=')
    assert files[0].read_bytes() in body


def test_a_web_service_that_is_away_is_tried_later(files: list[Path]) -> None:
    with web_service(200) as (url, _):
        pass
    assert WebService(url).send(files[0]) is Outcome.LATER


@pytest.mark.parametrize("text", ["file:///etc/passwd", "studies", "ftp://host/"])
def test_addresses_of_other_kinds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no http or https address"):
        WebService.parse(text)
