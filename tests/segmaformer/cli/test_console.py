from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import click
import pytest

from segmaformer.cli.console import (
    print_failures,
    print_json,
    print_line,
    print_path,
    print_rows,
    progress_bar,
    say,
    say_usage,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_messages_go_to_stderr_and_results_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    say("reading")
    print_path(Path("a b/labels.nii.gz"))
    print_json({"code": 0})
    json_text = '{\n  "schema_version": 1,\n  "code": 0\n}\n'
    assert capfd.readouterr() == (f"a b/labels.nii.gz\n{json_text}", "reading\n")


def test_a_path_is_printed_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_path(os.fsdecode(b"caf\xe9.nii"))
    assert capfdbinary.readouterr().out == b"caf\xe9.nii\n"


HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202e\u2028\n\r.nii"
SHOWN = r"a\x1b]0;owned\x07\x9b2J\u202e\u2028\x0a\x0d.nii"


def test_nothing_steers_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_path(HOSTILE)
    print_line(HOSTILE)
    print_rows([(HOSTILE, "ok")])
    print_failures([{"scan": [HOSTILE], "error": HOSTILE, "exit_code": 3}])
    say_usage(click.BadParameter(HOSTILE))
    found = capfd.readouterr()
    assert found.out.splitlines() == [SHOWN, SHOWN, f"{SHOWN}  ok"]
    assert found.err.splitlines() == [
        SHOWN,
        f"{SHOWN}  refused  {SHOWN}",
        "1 refused",
        f"Error: Invalid value: {SHOWN}",
    ]


def test_json_gives_every_path_exactly(capfd: pytest.CaptureFixture[str]) -> None:
    print_json({"scan": HOSTILE + "\udcff"})
    shown = capfd.readouterr().out
    assert shown.isascii()
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown)["scan"] == HOSTILE + "\udcff"


def test_bytes_that_are_controls_in_other_encodings_are_shown_by_their_numbers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print_path(os.fsdecode(b"a\x9b2J.nii"))
    assert capfd.readouterr().out == "a\\udc9b2J.nii\n"


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
