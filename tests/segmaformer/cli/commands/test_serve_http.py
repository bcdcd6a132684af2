"""``sgmf serve --http`` as a process: the same labels as the command's, and an end in order."""

from __future__ import annotations

import base64
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.http_client import PROGRESS, ask, begin, form, segment
from support.packages.samples import head_like
from support.packages.small_packages import write_ct_package
from support.serve_process import Service

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

Sgmf = Callable[..., Any]
TOKEN = "0123456789abcdef0123456789abcdef"


@contextmanager
def serving(folder: Path, *arguments: str | Path) -> Iterator[Service]:
    service = Service(folder, "--http", "127.0.0.1:0", *map(str, arguments))
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    import nibabel
    import numpy as np

    voxels = (head_like((40, 36, 30)) * 100).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag((1.5, 1.2, 1.3, 1))), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_labels_are_those_of_the_command(
    sgmf: Sgmf, hippocampus_package_path: Path, data_dir: Path, tmp_path: Path
) -> None:
    scan = sorted((data_dir / "msd_hippocampus/imagesTr").glob("*.nii.gz"))[0]
    run = sgmf("infer", scan, "-m", hippocampus_package_path, "-o", tmp_path / "labels.nii.gz")
    assert run.code == 0
    expected = (tmp_path / "labels.nii.gz").read_bytes()
    with serving(tmp_path, hippocampus_package_path) as service:
        assert segment(service.http, scan.read_bytes()).body == expected
        events = segment(
            service.http, scan.read_bytes(), result=["labels", "report"], accept=PROGRESS
        ).events
        labels, report = (event for event in events if event["event"] == "result")
        assert base64.b64decode(labels["base64"]) == expected
        assert report["name"] == "report.html"
        assert "hippocampus_001" not in service.log
        assert service.end(signal.SIGTERM) == 0


def test_a_zip_of_a_series_gives_a_dicom_segmentation(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    import io
    import zipfile

    import numpy as np
    from support.scans.ct_series import MARKS, write_ct_series

    series = write_ct_series(tmp_path / "ct", (head_like((26, 22, 18)) * 100).astype(np.int16))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in series.iterdir():
            archive.write(path, f"../{path.name}")
    with serving(tmp_path, write_ct_package(tmp_path / "ct.sgmf")) as service:
        answer = segment(service.http, content.getvalue(), result="segmentation")
        assert answer.status == 200, answer.body
        result = pydicom.dcmread(io.BytesIO(answer.body))
        assert result.SegmentationType == "BINARY"
        assert str(result.PatientID) == MARKS["PatientID"]
        labels = segment(service.http, content.getvalue())
        assert 'filename="labels.nii.gz"' in labels.headers["content-disposition"]
        hidden = (*MARKS.values(), "1.2.3", "20200102", "Physician")
        assert [mark for mark in hidden if mark in service.log] == []


def test_a_signal_ends_it_when_all_are_answered(tmp_path: Path, scan: Path) -> None:
    with serving(tmp_path, write_ct_package(tmp_path / "ct.sgmf"), "--threads", "1") as service:
        waiting = [begin(service.http, form(scan.read_bytes())) for _ in range(3)]
        service.wait(lambda: b"sgmf_waiting 3" in ask(service.http, "GET", "/metrics").body)
        assert service.end(signal.SIGTERM) == 0
        assert [connection.recv(15) for connection in waiting] == [b"HTTP/1.1 200 OK"] * 3
        for connection in waiting:
            connection.close()
    assert [event["event"] for event in service.events()][-4:].count("done") >= 1


def test_a_second_signal_ends_it_at_once(tmp_path: Path, scan: Path) -> None:
    with serving(tmp_path, write_ct_package(tmp_path / "ct.sgmf")) as service:
        stuck = begin(service.http, form(scan.read_bytes())[:100], promised=10_000)
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        service.wait(lambda: any(event["event"] == "ending" for event in service.events()))
        assert service.end(signal.SIGTERM) == 0
        stuck.close()


def test_a_dropped_client_ends_its_work(tmp_path: Path) -> None:
    import nibabel
    import numpy as np

    voxels = (head_like((220, 220, 160)) * 100).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag((1.5, 1.2, 1.3, 1)))
    with serving(tmp_path, write_ct_package(tmp_path / "ct.sgmf"), "--threads", "1") as service:
        connection = begin(service.http, form(image.to_bytes()))
        service.wait(lambda: b"sgmf_waiting 1" in ask(service.http, "GET", "/metrics").body)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        service.wait(lambda: b"sgmf_waiting 0" in ask(service.http, "GET", "/metrics").body)
        assert [event["event"] for event in service.events()][-1] == "cancelled"


def test_several_models_and_a_token(tmp_path: Path, scan: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    packages = [write_ct_package(tmp_path / f"{name}.sgmf") for name in ("one", "two")]
    with serving(tmp_path, *packages, "--token-file", tmp_path / "token") as service:
        assert ask(service.http, "GET", "/models").status == 401
        named = ask(service.http, "GET", "/models", Authorization=f"Bearer {TOKEN}").json
        assert [model["name"] for model in named] == ["one", "two"]
        assert TOKEN not in service.log


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "give an address for requests"),
        (["--http", "8000"], "is not of the form HOST:PORT"),
        (["--http", "host:8000"], "is not of the form HOST:PORT"),
        (["--http", "127.0.0.1:x"], "is not of the form HOST:PORT"),
        (["--http", "127.0.0.1:70000"], "is not of the form HOST:PORT"),
        (["--http", "0.0.0.0:0"], "lets other machines ask; give a token"),
        (["--http", "[::]:0"], "lets other machines ask; give a token"),
        (["--http", "127.0.0.1:0", "--token-file", "short"], "at least 16"),
        (["--http", "127.0.0.1:0", "--to", "PACS"], "is not of the form AET@HOST:PORT"),
    ],
)
def test_wrong_usage_is_told(
    sgmf: Sgmf, tmp_path: Path, options: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SGMF_SERVE_TOKEN", raising=False)
    Path("short").write_text("abc\n")
    run = sgmf("serve", write_ct_package(tmp_path / "ct.sgmf"), *options)
    assert run.code == 2
    assert complaint in run.stderr


def test_two_packages_of_one_name_are_refused(sgmf: Sgmf, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    packages = [write_ct_package(tmp_path / place / "a.sgmf") for place in (".", "other")]
    assert "two packages have one name" in sgmf("serve", *packages, "--http", "127.0.0.1:0").stderr


def test_a_node_takes_one_package(sgmf: Sgmf, tmp_path: Path) -> None:
    packages = [write_ct_package(tmp_path / f"{name}.sgmf") for name in "ab"]
    assert "with one package" in sgmf("serve", *packages, "--to", "PACS@h:1").stderr


def test_an_unsigned_package_is_refused_where_signatures_are_required(
    sgmf: Sgmf, tmp_path: Path
) -> None:
    package = write_ct_package(tmp_path / "ct.sgmf")
    run = sgmf("serve", package, "--http", "127.0.0.1:0", "--require-signature")
    assert run.code == 4
