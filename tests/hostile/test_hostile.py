"""Every hostile input ends as its verdict says, within its bounds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile.hostile_input import TAKEN, HostileInput
from hostile.run_kind import KINDS, WITH_PYTORCH, WITHOUT_PYTORCH, inputs_of

from segmaformer.runtime.system.printable import printable_block

CORPUS = {kind: inputs_of(kind) for kind in KINDS}
LEAST_INPUTS = 1200
LEAST_COMMANDS = 900
LONGEST_LINE = 10_000
SAFETY_SECONDS = 900
"""A process that takes longer hangs; on a quiet machine each takes about a minute."""

Results = Callable[[str], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Return the outcome of each input of a kind; a process reads those of several."""
    known: dict[str, dict[str, dict[str, Any]]] = {}

    def of_kind(kind: str) -> dict[str, dict[str, Any]]:
        if kind not in known:
            kinds = WITH_PYTORCH if kind in WITH_PYTORCH else WITHOUT_PYTORCH
            known.update(_run(kinds, tmp_path_factory.mktemp("hostile")))
        return known[kind]

    return of_kind


def _run(kinds: tuple[str, ...], folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_kind.py")), str(folder), *kinds],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=SAFETY_SECONDS,
    )
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in kinds}
    for line in map(json.loads, run.stdout.splitlines()):
        found[line["kind"]][line["name"]] = line
    if run.returncode != 0:
        for of_kind in found.values():
            of_kind[""] = {"message": f"ended with {run.returncode}: {run.stderr[-2000:]}"}
    return found


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, each.name) for kind, inputs in CORPUS.items() for each in inputs]
)
def test_each_ends_as_its_verdict_says(results: Results, kind: str, name: str) -> None:
    (given,) = [each for each in CORPUS[kind] if each.name == name]
    found = results(kind)
    assert name in found, found.get("", {}).get("message", "the process stopped before it")
    if given.read:
        assert found[name]["code"] == given.verdict, found[name]["message"]
        assert (given.verdict == TAKEN) == (found[name]["message"] == "")
        assert found[name]["bytes"] <= given.most_bytes
    if "command" in found[name]:
        check_command(given, found[name]["command"])


def check_command(given: HostileInput, run: dict[str, Any]) -> None:
    """Check that it ended as its verdict says, in printable lines, leaving results only."""
    stdout, stderr = run["stdout"], run["stderr"]
    assert run["code"] == given.verdict, stdout + stderr
    assert "Traceback" not in stdout + stderr
    assert all(len(line) <= LONGEST_LINE for line in (stdout + stderr).splitlines())
    assert printable_block(stderr) == stderr
    # Of a name that is no text, stdout has the bytes: what reads it needs them.
    texts = re.sub("[\udca0-\udcff]", "", stdout)
    assert printable_block(texts) == texts
    told = [line for line in stderr.splitlines() if line.startswith(("sgmf: ", "Error: "))]
    assert (given.verdict == TAKEN) == (not told and not re.search("^refuse", stdout, re.M))
    assert (run["left"], run["strays"]) == (sorted(given.left), [])


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert sum(map(len, CORPUS.values())) >= LEAST_INPUTS
    commands = [
        each for kind, inputs in CORPUS.items() for each in inputs if KINDS[kind] or each.command
    ]
    assert len(commands) >= LEAST_COMMANDS
    for inputs in CORPUS.values():
        assert len({each.name for each in inputs}) == len(inputs)
