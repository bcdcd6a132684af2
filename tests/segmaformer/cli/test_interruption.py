"""SIGINT and SIGTERM, in runs that answer them and in one that does not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.networks.networks import save_tiny_checkpoint
from tools.interrupted_runs import JOBS, Inputs, Job, interrupt, write_scans

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

DEAF = """
import sys, time
from pathlib import Path
import click
from segmaformer.cli import main
from segmaformer.cli.main import cli
from segmaformer.runtime.package.writer import staged_package

def work(as_json):
    with staged_package(Path("some.sgmf"), overwrite=False) as staging:
        (staging / "fp32.onnx").touch()
        print("begun", flush=True)
        time.sleep(600)  # as PyTorch in the middle of a tile

option = click.Option(["--json", "as_json"], is_flag=True)
cli.get_command = lambda *_: click.Command("export", callback=work, params=[option])
main(["export", "--json"])
"""


def begin(code: str, folder: Path, handler: Callable[[], object]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        preexec_fn=handler,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def heard() -> object:
    return signal.signal(signal.SIGINT, signal.default_int_handler)


def ignored() -> object:
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_does_not_hear_ends_with_its_process_and_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    process = begin(DEAF, tmp_path, heard)
    process.send_signal(number)
    out, errors = process.communicate()
    assert (process.returncode, errors) == (1, "sgmf: interrupted\n")
    assert '"error": "interrupted"' in out
    assert [*tmp_path.iterdir()] == []


def test_a_signal_that_the_starter_ignored_stays_ignored(tmp_path: Path) -> None:
    process = begin(DEAF.replace("600", "0.5"), tmp_path, ignored)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["some.sgmf"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_exits_does_not_change_the_exit_code(number: int) -> None:
    code = f"""
import os, sys
import segmaformer.__main__ as command

class SignalOnceCollected:
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, {int(number)})

kept = SignalOnceCollected()
sys.argv = ["sgmf", "--version"]
command.start()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture(scope="module")
def given(tiny_package_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    checkpoint = save_tiny_checkpoint(folder / "tiny.pth")
    return Inputs(checkpoint, tiny_package_path, write_scans(folder / "scans"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_signal_at_any_moment_leaves_nothing_half_done(
    given: Inputs, tmp_path: Path, job: Job, seed: int
) -> None:
    """A few of the 200 that ``python tests/tools/interrupted_runs.py`` sends."""
    choose = random.Random(f"{job.name} {seed}")
    delay = choose.uniform(0, 3)
    ending = interrupt(job, given, tmp_path, delay, [signal.SIGINT, signal.SIGTERM][seed % 2])
    assert ending.faults == ()
