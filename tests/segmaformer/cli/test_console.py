from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from segmaformer.cli.console import print_json, print_path, progress_bar, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_messages_go_to_stderr_and_results_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    say("reading")
    print_path(Path("a b/labels.nii.gz"))
    print_json({"code": 0})
    assert capfd.readouterr() == ('a b/labels.nii.gz\n{\n  "code": 0\n}\n', "reading\n")


def test_a_path_is_printed_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_path(os.fsdecode(b"caf\xe9.nii"))
    assert capfdbinary.readouterr().out == b"caf\xe9.nii\n"


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("scan.nii") as progress:
        for done in range(4):
            progress("tiles", done, 3)
    shown = terminal.getvalue()
    assert "scan.nii, tiles" in shown
    assert "100%" in shown


def test_progress_ends_its_line_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def work() -> None:
        with progress_bar("scan.nii") as progress:
            progress("tiles", 1, 3)
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        work()
    assert terminal.getvalue().endswith(("\n", "\x1b[?25h"))


def test_progress_is_silent_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("scan.nii") as progress:
        progress("tiles", 0, 3)
        progress("tiles", 3, 3)
    assert capfd.readouterr() == ("", "")
