"""All that a GPU can show of this project, in one visit to a machine that has one.

    python benchmarks/gpu/visit.py --out gpu_visit.json
    python benchmarks/gpu/visit.py --only scan --only labels
    python benchmarks/gpu/visit.py --bundle /path/to/libraries --deadline 300

Each step of `steps.py` runs in a process of its own with its own limit, the most telling first;
packages are exported meanwhile. The document is written after every step, and a step keeps what it
found before it failed or was ended, so that a visit that is cut off shows what it saw.

Needs an NVIDIA GPU, PyTorch with CUDA, and this project installed with SGMF_CUDA=ON. What a step
needs besides, it names where that is missing. `--bundle` is a folder of Python packages that go
before those installed, such as onnxruntime-gpu.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SKIPPED = 77  # exit code of a step that cannot run here
OUTPUT_CHARACTERS = 6000
_POLL_S = 0.05

Clock = Callable[[], float]


@dataclass(frozen=True)
class Step:
    """A step and its limit in seconds; one that is `beside` the others starts with the first."""

    name: str
    limit_s: float
    beside: bool = False


STEPS = (
    Step("exports", 280, beside=True),
    Step("device", 60),
    Step("tests", 90),
    Step("labels", 60),
    Step("scan", 90),
    Step("memcheck", 70),
    Step("racecheck", 70),
    Step("predictions", 90),
    Step("networks", 200),
    Step("tensorrt", 240),
    Step("other_tests", 120),
)
"""The most telling first, but those that others wait for."""


class Run:
    """A step in a process of its own.

    Parameters
    ----------
    command
        Command; it writes what it finds to the file whose name is added to it.
    folder
        Folder for its files.
    step
        Step.
    clock
        Seconds that pass.
    """

    def __init__(self, command: Sequence[str], folder: Path, step: Step, clock: Clock):
        self._found = folder / f"{step.name}.json"
        self._output = folder / f"{step.name}.txt"
        self._step, self._clock, self._start = step, clock, clock()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, step.name, str(self._found)],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all that it starts can be ended with it
            )

    def wait(self, deadline: float) -> dict[str, Any]:
        """Wait until it ends, its limit or the deadline; return its entry of the document."""
        end = min(deadline, self._start + self._step.limit_s)
        while (code := self._process.poll()) is None and self._clock() < end:
            time.sleep(_POLL_S)
        seconds = self._clock() - self._start
        self.end()
        ended = {None: "timed out", 0: "done", SKIPPED: "skipped"}.get(code, "failed")
        entry: dict[str, Any] = {"status": ended, "seconds": round(seconds, 1)}
        if self._found.exists():
            entry["found"] = json.loads(self._found.read_bytes())
        if ended != "done":
            text = self._output.read_text(errors="replace")
            entry["output"] = text[-OUTPUT_CHARACTERS:]
        return entry

    def end(self) -> None:
        """End what is left of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def visit(
    steps: Sequence[Step],
    command: Sequence[str],
    report: Callable[[dict[str, Any]], None],
    *,
    deadline_s: float = float("inf"),
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Run the steps, each as a process of `command`.

    Parameters
    ----------
    steps
        Steps, the most telling first.
    command
        Command that runs a step; its name and a file for what it finds are added to it.
    report
        Called with the document after every step.
    deadline_s
        Seconds for all of them; what has not started then is not.
    clock
        Seconds that pass.

    Returns
    -------
    dict
        ``date`` and, for each of the ``steps``, ``status``, ``seconds``, what it ``found``, and
        the end of its ``output`` unless it is done.
    """
    deadline = clock() + deadline_s
    entries: dict[str, dict[str, Any]] = {step.name: {"status": "not started"} for step in steps}
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    document = {"date": today, "steps": entries}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        beside = {step.name: Run(command, folder, step, clock) for step in steps if step.beside}
        try:
            for step in steps:
                if step.name not in beside and clock() < deadline:
                    entries[step.name] = Run(command, folder, step, clock).wait(deadline)
                    report(document)
            for name, run in beside.items():
                entries[name] = run.wait(deadline)
                report(document)
        finally:
            for run in beside.values():
                run.end()
    return document


def chosen(names: Sequence[str] | None) -> tuple[Step, ...]:
    """Return the steps of these names, or all; those that prepare others are always there."""
    return tuple(step for step in STEPS if not names or step.name in names)


def line(name: str, entry: dict[str, Any]) -> str:
    """Return a line of text about a step, and the end of its output unless it went well."""
    head = f"{name}: {entry['status']} after {entry.get('seconds', 0)} s"
    return head if entry["status"] == "done" else f"{head}\n{entry.get('output', '')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [step.name for step in STEPS]
    parser.add_argument("--only", action="append", choices=names, help="step; repeat for more")
    parser.add_argument("--bundle", type=Path, help="folder of Python packages that go first")
    parser.add_argument("--scans", type=Path, help="folder of T1 crops around a hippocampus")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds for all")
    parser.add_argument("--work", type=Path, help="folder for packages; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path("gpu_visit.json"))
    options = parser.parse_args()
    if options.bundle is not None:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(options.bundle), before]))
    said: set[str] = set()

    def report(document: dict[str, Any]) -> None:
        options.out.write_text(json.dumps(document, indent=1) + "\n")
        for name, entry in document["steps"].items():
            if name not in said and entry["status"] != "not started":
                said.add(name)
                print(line(name, entry), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        work = str((options.work or Path(scratch)).resolve())
        script = str(Path(__file__).with_name("steps.py"))
        command = [sys.executable, script, "--work", work]
        command += ["--scans", str(options.scans.resolve())] if options.scans else []
        document = visit(chosen(options.only), command, report, deadline_s=options.deadline)
    report(document)


if __name__ == "__main__":
    main()
