"""The service's page, in a real browser: a scan is sent, and its report looked through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.chromium import Page, find_chromium

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from support.http_stand_in import TOKEN, phantom_file, running

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with Page(CHROMIUM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(phantom_file(".nii.gz"))
    return path


def state(page: Page) -> str:
    text: str = page.run("document.getElementById('state').textContent")
    return text


def wait_for(page: Page, condition: str) -> None:
    page.run(
        f"""new Promise(done => {{
            const look = () => ({condition}) ? done() : setTimeout(look, 20);
            look();
        }})"""
    )


def choose(page: Page, *files: Path) -> None:
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#scan")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])


def test_a_scan_is_sent_and_its_report_shown(page: Page, scan: Path) -> None:
    with running() as service:
        page.open(f"http://127.0.0.1:{service.port}/")
        wait_for(page, "document.getElementById('model').value")
        choose(page, scan)
        page.run("document.getElementById('send').click()")
        wait_for(page, "document.getElementById('state').textContent === 'Done.'")
        assert page.run("document.getElementById('labels').download") == "labels.nii.gz"
        assert page.run("document.getElementById('warnings').textContent") == (
            "scan.nii.gz is odd. Look at it"
        )
        rows = page.run_in_frame(
            """new Promise(done => {
                const look = () => document.getElementById('position')?.textContent.trim()
                    ? done(document.querySelectorAll('.labels tbody tr').length)
                    : setTimeout(look, 20);
                look();
            })"""
        )
        assert rows == 1
        assert page.complaints == []


def test_an_error_is_told(page: Page, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"x")
    with running() as service:
        page.open(f"http://127.0.0.1:{service.port}/")
        wait_for(page, "document.getElementById('model').value")
        choose(page, tmp_path / "scan.nii.gz")
        page.run("document.getElementById('send').click()")
        wait_for(page, "document.getElementById('state').textContent.includes('no scan')")
        assert page.run("document.getElementById('shown').hidden")


def test_a_stop_ends_the_work(page: Page, scan: Path) -> None:
    with running() as service:
        service.network.go.clear()
        page.open(f"http://127.0.0.1:{service.port}/")
        wait_for(page, "document.getElementById('model').value")
        choose(page, scan)
        page.run("document.getElementById('send').click()")
        assert service.network.begun.wait(20)
        page.run("document.getElementById('stop').click()")
        assert service.network.ended.wait(20)
        wait_for(page, "document.getElementById('state').textContent === 'Stopped.'")


def test_the_page_asks_for_a_token(page: Page) -> None:
    with running(token=TOKEN, models=("one", "two")) as service:
        page.open(f"http://127.0.0.1:{service.port}/")
        wait_for(page, "!document.getElementById('secret').hidden")
        assert state(page) == "This service asks for a token."
        page.run(
            f"document.getElementById('token').value = '{TOKEN}';"
            "document.getElementById('token').dispatchEvent(new Event('change'))"
        )
        wait_for(page, "document.getElementById('model').options.length === 2")
