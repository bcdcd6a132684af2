"""The node beside Orthanc, a real archive, in a network of their own.

Orthanc listens on all addresses, so this thread and what it starts enter a network namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pynetdicom = pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from support.packages.samples import head_like
from support.scans.ct_series import MARKS, write_ct_series
from support.serve_process import Service

EXTENTS = (96, 96, 40)
STUDY = "1.2.3.1"
REST = "http://127.0.0.1:8042"
DICOM_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TO_ORTHANC = ("--to", "ORTHANC@127.0.0.1:4242")
NOWHERE = ("--to", "ORTHANC@127.0.0.1:9")
ROUTE = """
function OnStableSeries(series, tags, metadata)
  if tags["Modality"] == "CT" then
    RestApiPost("/modalities/SGMF/store", DumpJson({Resources = {series}, Synchronous = false}))
  end
end
"""
_CLONE_NEWNET = 0x40000000


@contextmanager
def own_network() -> Iterator[None]:
    """Give this thread, and the processes it starts, a network of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no right to a network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0


class Orthanc:
    """A running Orthanc that sends every CT to SGMF."""

    def __init__(self, folder: Path):
        folder.mkdir()
        (folder / "route.lua").write_text(ROUTE)
        configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "Plugins": [str(DICOM_WEB)] if DICOM_WEB.exists() else [],
            "LuaScripts": [str(folder / "route.lua")],
            "StableAge": 1,
            "HttpPort": 8042,
            "DicomAet": "ORTHANC",
            "DicomPort": 4242,
            "DicomModalities": {"SGMF": ["SGMF", "127.0.0.1", 11112]},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        with (folder / "log.txt").open("wb") as log:
            command = ["Orthanc", str(folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        for _ in range(600):
            if self._is_up():
                return
            assert self._process.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.1)
        raise AssertionError((folder / "log.txt").read_text())

    def _is_up(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """Ask by REST; a question is posted."""
        body = None if question is None else json.dumps(question).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(REST + path, body), timeout=30) as answer:
            return json.load(answer)

    def segmentations(self) -> list[str]:
        """Name the segmentations of the study."""
        query = {"StudyInstanceUID": STUDY, "Modality": "SEG"}
        return list(self.ask("/tools/find", {"Level": "Instance", "Query": query}))

    def receive(self, series: Path) -> None:
        """Take a series by C-STORE."""
        entity = pynetdicom.AE(ae_title="CT1")
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
        association = entity.associate("127.0.0.1", 4242, ae_title="ORTHANC")
        assert association.is_established
        for path in sorted(series.iterdir()):
            assert association.send_c_store(pydicom.dcmread(path)).Status == 0
        association.release()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    for program in ("Orthanc", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with own_network():
        running = Orthanc(tmp_path / "orthanc")
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_ct_series(tmp_path / "ct", (head_like(EXTENTS) * 100).astype(np.int16))


@contextmanager
def serving(package: Path, folder: Path, *options: str) -> Iterator[Service]:
    """Run the node where Orthanc looks for it."""
    service = Service(
        folder, str(package), "--port", "11112", "--peer", "ORTHANC@127.0.0.1", *options
    )
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.end(signal.SIGKILL)


def wait_for(service: Service, event: str) -> None:
    service.wait(lambda: any(each["event"] == event for each in service.events()))


@pytest.mark.parametrize(
    "options",
    [
        TO_ORTHANC,
        (*TO_ORTHANC, "--segmentation-type", "labelmap"),
        ("--stow", f"{REST}/dicom-web/studies"),
    ],
    ids=["C-STORE", "label map", "STOW-RS"],
)
def test_a_series_that_orthanc_routes_comes_back_segmented(
    options: tuple[str, ...],
    tiny_package_path: Path,
    orthanc: Orthanc,
    series: Path,
    tmp_path: Path,
) -> None:
    if "--stow" in options and not DICOM_WEB.exists():
        pytest.skip(f"{DICOM_WEB} is not installed")
    with serving(tiny_package_path, tmp_path, *options) as service:
        orthanc.receive(series)
        wait_for(service, "delivered")
        assert service.end(signal.SIGTERM) == 0
    (found,) = orthanc.segmentations()
    tags = orthanc.ask(f"/instances/{found}/simplified-tags")
    assert (tags["StudyInstanceUID"], tags["PatientID"]) == (STUDY, MARKS["PatientID"])
    assert tags["SegmentationType"] == "BINARY"
    (referenced,) = tags["ReferencedSeriesSequence"]
    assert len(referenced["ReferencedInstanceSequence"]) == EXTENTS[2]
    if DICOM_WEB.exists():
        (row,) = orthanc.ask(f"/dicom-web/studies/{STUDY}/series?Modality=SEG")
        assert row["0020000E"]["Value"] == [tags["SeriesInstanceUID"]]


def test_a_kill_while_the_network_runs_leaves_one_result(
    tiny_package_path: Path, orthanc: Orthanc, series: Path, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with serving(tiny_package_path, tmp_path, *TO_ORTHANC) as service:
        orthanc.receive(series)
        service.wait(lambda: any((spool / "jobs").glob("[0-9]*")))
        service.end(signal.SIGKILL)
    (job,) = (spool / "jobs").iterdir()
    assert [path.name for path in job.iterdir()] == ["images"]
    assert orthanc.segmentations() == []
    with serving(tiny_package_path, tmp_path, *TO_ORTHANC) as service:
        wait_for(service, "delivered")
    assert len(orthanc.segmentations()) == 1


def test_a_result_that_is_sent_twice_is_kept_once(
    tiny_package_path: Path, orthanc: Orthanc, series: Path, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with serving(tiny_package_path, tmp_path, *NOWHERE) as service:
        orthanc.receive(series)
        wait_for(service, "waiting")
    before = shutil.copytree(spool, tmp_path / "before")
    for _ in range(2):  # as if a kill came between Orthanc's answer and its note
        shutil.rmtree(spool)
        shutil.copytree(before, spool)
        with serving(tiny_package_path, tmp_path, *TO_ORTHANC) as service:
            wait_for(service, "delivered")
    assert len(orthanc.segmentations()) == 1
