"""Every status of the service, with a stand-in for the network that the tests hold back."""

from __future__ import annotations

import base64
import gzip
import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.http_client import FORM, PROGRESS, Answer, ask, begin, form, segment

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from support.http_stand_in import MOST_BYTES, TOKEN, Running, phantom_file, running

from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.service.access import Access
from segmaformer.runtime.service.results import Result

KINDS = {"labels", "statistics", "report"}


@pytest.fixture
def one() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def scan() -> bytes:
    return phantom_file(".nii.gz")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_label_map_comes_in_the_scans_format(one: Running, tmp_path: Path, suffix: str) -> None:
    content = phantom_file(suffix)
    answer = segment(one.port, content)
    assert answer.status == 200
    expected = ".nii.gz" if suffix == ".nii" else suffix
    assert f'filename="labels{expected}"' in answer.headers["content-disposition"]
    (tmp_path / f"labels{expected}").write_bytes(answer.body)
    (tmp_path / f"scan{suffix}").write_bytes(content)
    scan = read_scan([tmp_path / f"scan{suffix}"])
    labels = read_scan([tmp_path / f"labels{expected}"])
    assert np.array_equal(labels.voxels, scan.voxels > 100)
    assert np.array_equal(labels.affine, scan.affine)


def test_the_results_of_one_scan_come_with_progress(one: Running, scan: bytes) -> None:
    answer = segment(one.port, scan, result=[*KINDS], accept=PROGRESS)
    assert answer.headers["content-type"] == PROGRESS
    events = answer.events
    results = {event["result"]: event for event in events if event["event"] == "result"}
    assert {*results} == KINDS
    assert b"<!doctype html>" in base64.b64decode(results["report"]["base64"])
    assert [event for event in events if event["event"] == "warning"] == [
        {"event": "warning", "warning": "scan.nii.gz is odd. Look at it"}
    ]
    kinds = [event["event"] for event in events]
    assert kinds.index("result") > max(kinds.index("warning"), kinds.count("progress") - 1)


def test_progress_is_told_while_the_network_runs(one: Running, scan: bytes) -> None:
    one.network.go.clear()
    found: list[Answer] = []
    asking = threading.Thread(target=lambda: found.append(segment(one.port, scan, accept=PROGRESS)))
    asking.start()
    assert one.network.begun.wait(20)
    time.sleep(0.3)
    one.network.go.set()
    asking.join(20)
    progress = {"event": "progress", "stage": "tiles", "done": 1, "count": 2}
    assert found[0].events.count(progress) == 1


def test_statistics_tell_of_the_package_and_of_warnings(one: Running, scan: bytes) -> None:
    document = segment(one.port, scan, result="statistics").json
    assert document["warnings"] == ["scan.nii.gz is odd. Look at it"]
    assert {"package", "package_sha256", "backend", "statistics"} <= {*document}


def test_warnings_come_in_a_header(one: Running, scan: bytes) -> None:
    headers = segment(one.port, scan).headers
    assert headers["sgmf-warnings"] == '["scan.nii.gz is odd. Look at it"]'


def test_channels_come_as_several_files(one: Running, scan: bytes) -> None:
    assert segment(one.port, scan, scan).status == 200
    assert [path.name for path in one.network.files] == ["channel1.nii.gz", "channel2.nii.gz"]


def test_nothing_of_a_scan_stays(one: Running, scan: bytes) -> None:
    segment(one.port, scan)
    assert not one.network.files[0].parent.exists()


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (form(), 400, "expected one file or more in the field scan"),
        (form(b"x", other="1"), 400, "other fields than scan, model, result"),
        (form(b"x", result="dice"), 400, "result is none of labels"),
        (form(b"x", result=["labels", "report"]), 400, "several results need the header Accept"),
        (form(b"x", model="other"), 404, "there are: one"),
        (form(*[b"x"] * 17), 400, "Too many files"),
        (form(b"x", model="x" * 2000), 400, "maximum size"),
        (form(b"x")[:-20], 400, ""),
        (b"no form at all", 400, ""),
        (form(b"x" * (MOST_BYTES + 1)), 413, "the upload is larger than 1 MiB"),
        (form(b""), 422, "scan is empty"),
        (form(b"NRRD0004\nno header\n\n"), 422, "scan.nrrd"),
        (form(b"\x89PNG\r\n\x1a\n"), 422, "a PNG picture"),
    ],
)
def test_what_is_wrong_is_told(one: Running, body: bytes, status: int, part: str) -> None:
    answer = ask(one.port, "POST", "/segment", body, Content_Type=FORM)
    assert answer.status == status
    assert part in answer.error
    assert "/tmp" not in answer.error
    assert "sgmf-" not in answer.error


def test_another_body_than_a_form_is_refused(one: Running) -> None:
    assert ask(one.port, "POST", "/segment", b"{}", Content_Type="application/json").status == 415


def test_an_upload_without_a_length_is_cut_off_at_the_limit(one: Running) -> None:
    connection = socket.create_connection(("127.0.0.1", one.port), timeout=60)
    head = f"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\n"
    connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    body = form(b"x" * (2 * MOST_BYTES))
    for start in range(0, len(body), 1 << 16):
        piece = body[start : start + (1 << 16)]
        connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    connection.sendall(b"0\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    connection.close()


def test_an_unexpected_error_tells_nothing(one: Running, scan: bytes) -> None:
    one.network.error = BackendError("secret of /somewhere")
    answer = segment(one.port, scan)
    assert answer.status == 500
    assert "secret" not in answer.error
    one.network.error = RuntimeError("secret")
    events = segment(one.port, scan, accept=PROGRESS).events
    assert events[-1]["event"] == "error"
    assert "secret" not in events[-1]["error"]
    assert [event["reason"] for event in one.log] == ["BackendError", "RuntimeError"]


def test_one_of_several_models_must_be_named(scan: bytes) -> None:
    with running(models=("one", "two")) as service:
        assert "name one model in the field model: one, two" in segment(service.port, scan).error
        assert segment(service.port, scan, model="two").status == 200
        assert [each["name"] for each in ask(service.port, "GET", "/models").json] == ["one", "two"]
        assert 'outcome="done"} 1' in metrics(service)


def metrics(service: Running) -> str:
    return ask(service.port, "GET", "/metrics").body.decode()


def test_a_full_line_asks_to_come_later(scan: bytes) -> None:
    with running(most_places=2) as service:
        service.network.go.clear()
        waiting = [begin(service.port, form(scan)) for _ in range(2)]
        service.wait(lambda: service.service.line.taken == 2)
        large = form(b"x" * (MOST_BYTES - 1000))
        answer = ask(service.port, "POST", "/segment", large, Content_Type=FORM)
        assert (answer.status, answer.headers["retry-after"]) == (429, "10")
        assert "sgmf_waiting 2" in metrics(service)
        service.network.go.set()
        for connection in waiting:
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
            connection.close()
        service.wait(lambda: service.service.line.taken == 0)
        assert segment(service.port, scan).status == 200


def test_an_answer_that_is_not_read_keeps_its_place_and_is_cut_off(
    one: Running, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmaformer.runtime.service.app._MOST_PIECE_SECONDS", 1.0)
    large = Result("labels", "application/octet-stream", "labels.nii.gz", bytes(32 << 20))
    monkeypatch.setattr("segmaformer.runtime.service.work.result_of", lambda *_: large)
    connection = begin(one.port, form(scan))
    assert one.network.ended.wait(20)
    time.sleep(0.3)
    assert one.service.line.taken == 1
    one.wait(lambda: one.service.line.taken == 0)
    connection.close()


def test_an_upload_that_stops_has_a_place_until_it_is_dropped(one: Running, scan: bytes) -> None:
    connection = begin(one.port, form(scan)[:200], promised=100_000)
    one.wait(lambda: one.service.line.taken == 1)
    connection.close()
    one.wait(lambda: one.service.line.taken == 0)
    assert not one.network.begun.is_set()


@pytest.mark.parametrize("accept", ["*/*", PROGRESS])
def test_work_ends_when_its_client_goes(one: Running, scan: bytes, accept: str) -> None:
    one.network.go.clear()
    asked = form(scan)
    connection = socket.create_connection(("127.0.0.1", one.port), timeout=60)
    head = f"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\n"
    head += f"Accept: {accept}\r\nContent-Length: {len(asked)}\r\n\r\n"
    connection.sendall(head.encode() + asked)
    assert one.network.begun.wait(20)
    connection.close()
    assert one.network.ended.wait(20)
    one.wait(lambda: one.service.line.taken == 0)
    one.wait(lambda: 'outcome="cancelled"} 1' in metrics(one))


def test_a_client_that_goes_while_it_waits_leaves_the_line(one: Running, scan: bytes) -> None:
    one.network.go.clear()
    first = begin(one.port, form(scan))
    assert one.network.begun.wait(20)
    second = begin(one.port, form(scan))
    one.wait(lambda: one.service.line.taken == 2)
    second.close()
    one.wait(lambda: one.service.line.taken == 1)
    one.network.go.set()
    assert first.recv(100).startswith(b"HTTP/1.1 200 ")
    first.close()
    one.wait(lambda: one.service.line.taken == 0)
    assert metrics(one).count("outcome=") == 1


def test_an_end_answers_what_has_come(one: Running, scan: bytes) -> None:
    one.network.go.clear()
    first = begin(one.port, form(scan))
    second = begin(one.port, form(scan))
    one.wait(lambda: one.service.line.taken == 2)
    one.service.ending = True
    assert ask(one.port, "GET", "/ready").status == 503
    late = segment(one.port, scan)
    assert (late.status, late.headers["retry-after"]) == (503, "10")
    draining = threading.Thread(target=one.server.drain, args=(lambda: None,))
    draining.start()
    one.wait(lambda: refuses(one.port))
    assert draining.is_alive()
    one.network.go.set()
    for connection in (first, second):
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        connection.close()
    draining.join(20)
    assert not one.server.is_running


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}", "Host": "elsewhere", "Origin": "http://a"}, 200),
    ],
)
def test_a_token_must_be_right(given: dict[str, str], status: int) -> None:
    with running(token=TOKEN) as service:
        for path in ("/models", "/metrics", "/openapi.json"):
            assert ask(service.port, "GET", path, **given).status == status
        for path in ("/", "/health", "/ready"):
            assert ask(service.port, "GET", path, **given).status == 200


def test_a_wrong_token_is_told_even_in_the_middle_of_an_upload() -> None:
    with running(token=TOKEN) as service:
        answer = ask(service.port, "POST", "/segment", form(b"x" * 900_000), Content_Type=FORM)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert not service.network.begun.is_set()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[bad"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ({"Host": "localhost:1", "Origin": "https://evil.example"}, 403),
        ({"Host": "localhost:1", "Origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_are_turned_away(
    one: Running, headers: dict[str, str], status: int
) -> None:
    assert ask(one.port, "GET", "/models", **headers).status == status


@pytest.mark.parametrize(
    "token", ["short", "with a space in its middle", "übergroß" * 4, "a\n" * 9]
)
def test_a_bad_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="the token has"):
        Access(token)


def test_other_paths_and_methods_are_told_in_json(one: Running) -> None:
    assert ask(one.port, "GET", "/elsewhere").error == "Not Found"
    assert ask(one.port, "GET", "/segment").status == 405


def test_the_paths_are_described(one: Running) -> None:
    document = ask(one.port, "GET", "/openapi.json").json
    assert {*document["paths"]} == {"/segment", "/models", "/health", "/ready", "/metrics"}
    body = document["paths"]["/segment"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert body["schema"]["required"] == ["scan"]


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def test_a_zip_bomb_is_told(one: Running) -> None:
    answer = segment(one.port, zipped(bomb=bytes(5 * MOST_BYTES)))
    assert answer.status == 413
    assert "unpacks to more than 4 MiB" in answer.error


def test_a_gzip_bomb_is_refused(one: Running) -> None:
    assert segment(one.port, gzip.compress(bytes(64 * MOST_BYTES))).status == 422


def test_the_page_runs_its_own_script_alone(one: Running) -> None:
    answer = ask(one.port, "GET", "/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert b"{{" not in answer.body
