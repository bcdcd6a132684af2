"""``sgmf serve`` as a process, which is killed and started again."""

from __future__ import annotations

import io
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.http_client import segment
from support.packages.samples import head_like
from support.packages.small_packages import write_ct_package, write_package, write_region_package

pydicom = pytest.importorskip("pydicom")
pynetdicom = pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from support.scans.ct_series import MARKS, write_ct_series
from support.serve_process import Service

from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Region

Sgmf = Callable[..., Any]
EXTENTS = (26, 22, 18)


class Archive:
    """Service that keeps the results that come to it."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        entity = pynetdicom.AE(ae_title="PACS")
        entity.add_supported_context("1.2.840.10008.5.1.4.1.1.66.4")
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, self._store)]
        )
        self.address = f"PACS@127.0.0.1:{self._server.server_address[1]}"

    def _store(self, event: Any) -> int:
        self.got.append(event.dataset)
        return 0

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.close()


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_ct_series(tmp_path / "ct", (head_like(EXTENTS) * 100).astype(np.int16))


def test_a_series_that_comes_is_segmented_and_the_result_sent(
    tiny_package_path: Path, series: Path, tmp_path: Path, archive: Archive
) -> None:
    service = Service(tmp_path, str(tiny_package_path), "--to", archive.address)
    service.send(series)
    service.wait(lambda: bool(archive.got))
    service.wait(lambda: any(event["event"] == "delivered" for event in service.events()))
    assert service.end(signal.SIGTERM) == 0
    (result,) = archive.got
    assert result.SegmentationType == "BINARY"
    assert str(result.PatientID) == MARKS["PatientID"]
    counts = service.events()[-1]
    assert (counts["received"], counts["delivered"]) == (EXTENTS[2], 1)
    hidden = (*MARKS.values(), "1.2.3", "20200102", "Physician")
    assert [mark for mark in hidden if mark in service.log] == []
    assert not [*(tmp_path / "spool").rglob("*.dcm")]


def test_the_queue_survives_a_kill_and_every_result_comes_once(
    tiny_package_path: Path, series: Path, tmp_path: Path, archive: Archive
) -> None:
    service = Service(tmp_path, str(tiny_package_path), "--to", "PACS@127.0.0.1:9")
    service.send(series)
    service.end(signal.SIGKILL)
    service = Service(tmp_path, str(tiny_package_path), "--to", "PACS@127.0.0.1:9")
    service.wait(lambda: any(event["event"] == "waiting" for event in service.events()))
    service.end(signal.SIGKILL)
    service = Service(tmp_path, str(tiny_package_path), "--to", archive.address)
    service.wait(lambda: any(event["event"] == "delivered" for event in service.events()))
    assert service.end(signal.SIGTERM) == 0
    service = Service(tmp_path, str(tiny_package_path), "--to", archive.address)
    time.sleep(1)
    assert service.end(signal.SIGINT) == 0
    assert len(archive.got) == 1


def test_a_folder_feeds_the_same_queue(
    tiny_package_path: Path, series: Path, tmp_path: Path, archive: Archive
) -> None:
    options = ("--to", archive.address, "--watch", str(series))
    service = Service(tmp_path, str(tiny_package_path), *options)
    service.wait(lambda: bool(archive.got))
    assert service.end(signal.SIGTERM) == 0
    assert [*series.iterdir()] == []


def test_requests_and_series_are_served_by_one_process(
    series: Path, tmp_path: Path, archive: Archive
) -> None:
    for module in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(module)
    package = write_ct_package(tmp_path / "ct.sgmf")
    service = Service(tmp_path, str(package), "--to", archive.address, "--http", "127.0.0.1:0")
    service.send(series)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as images:
        for path in series.iterdir():
            images.write(path)
    answer = segment(service.http, content.getvalue(), result="segmentation")
    service.wait(lambda: bool(archive.got))
    assert service.end(signal.SIGTERM) == 0
    asked = pydicom.dcmread(io.BytesIO(answer.body))
    assert asked.NumberOfFrames == archive.got[0].NumberOfFrames
    assert asked.PixelData == archive.got[0].PixelData


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "give an address for requests"),
        (["--to", "PACS@host:1", "--stow", "http://host/studies"], "give one place"),
        (["--to", "PACS"], "is not of the form AET@HOST:PORT"),
        (["--stow", "file:///x"], "no http or https address"),
        (["--to", "PACS@h:1", "--bind", "0.0.0.0"], "lets other machines send; name those"),
        (["--to", "PACS@h:1", "--bind", "host"], "is no IP address"),
        (["--to", "PACS@h:1", "--peer", "CT1"], "is not of the form AET@ADDRESS"),
        (["--to", "PACS@h:1", "--aet", "X" * 17], "expected 1 to 16 characters"),
    ],
)
def test_wrong_usage_is_told(
    sgmf: Sgmf, tiny_package_path: Path, options: list[str], complaint: str
) -> None:
    run = sgmf("serve", tiny_package_path, *options)
    assert run.code == 2
    assert complaint in run.stderr


def test_a_package_of_several_channels_is_refused(sgmf: Sgmf, tmp_path: Path) -> None:
    run = sgmf("serve", write_region_package(tmp_path / "a.sgmf"), "--to", "PACS@h:1")
    assert run.code == 2
    assert "takes 2 channels, and a series that comes is one" in run.stderr


def test_regions_cannot_be_label_maps(sgmf: Sgmf, tmp_path: Path) -> None:
    labels = (Label(0, "background"), Label(1, "edema"))
    output = Output(labels, (Region("whole", (1,), 1),))
    preprocessing = Preprocessing(("CT",), (Normalization("zscore"),))
    package = write_package(tmp_path / "regions.sgmf", preprocessing, output)
    run = sgmf("serve", package, "--to", "PACS@h:1", "--segmentation-type", "labelmap")
    assert run.code == 2
    assert "overlap; leave --segmentation-type out" in run.stderr
