"""Fixtures that run the command in this process and look at its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.printed_json import check_document

from segmaformer.cli import main


@dataclass(frozen=True)
class Run:
    """Outcome of a run of the command."""

    code: int
    stdout: str
    stderr: str


Sgmf = Callable[..., Run]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder: in the checkout, Python would import the sources beside it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture
def sgmf(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sgmf:
    """Call the command with these arguments; no traceback is ever acceptable."""
    monkeypatch.delenv("SGMF_MODEL", raising=False)
    for name in ("SGMF_TRUST", "SGMF_REQUIRE_SIGNATURE"):  # which the command may set itself
        monkeypatch.setenv(name, "")

    def run(*arguments: str | Path) -> Run:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        stdout, stderr = capfd.readouterr()
        assert "Traceback" not in stdout + stderr
        if "--json" in arguments and stdout:
            check_document(str(arguments[0]), json.loads(stdout))
        return Run(ended.value.code, stdout, stderr)

    return run


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes | None]]:
    """List every path below a folder, hidden ones included, with the content of files."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
