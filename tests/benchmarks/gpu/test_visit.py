"""Host's part of ``benchmarks/gpu/visit.py``: steps that fail, hang, are skipped or cut off."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.scripts import ROOT
from support.stand_ins.host_device import HostDriver

pytest.importorskip("torch")

FOLDER = ROOT / "benchmarks"

CHILD = """
import json, sys, time
name, found = sys.argv[-2:]
def save(value):
    with open(found, "w") as file:
        json.dump(value, file)
if name == "good":
    save({"value": 1})
elif name == "bad":
    save({"so far": 2})
    sys.exit("it broke")
elif name == "slow":
    save({"so far": 3})
    print("waiting", flush=True)
    time.sleep(1000)
elif name == "absent":
    print("no such device")
    sys.exit(77)
"""


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """Modules of the folder, which import each other as the scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        names = ("visit", "labels", "networks", "steps", "tables")
        yield {name: importlib.import_module(f"gpu.{name}") for name in names}


@pytest.fixture
def visit(modules: dict[str, ModuleType], tmp_path: Path) -> Any:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    module = modules["visit"]

    def run(*steps: tuple[Any, ...], **options: Any) -> tuple[dict[str, Any], list[str]]:
        reports: list[str] = []
        document = module.visit(
            [module.Step(*step) for step in steps],
            [sys.executable, str(script)],
            lambda document: reports.append(json.dumps(document)),
            **options,
        )
        assert not reports or json.loads(reports[-1]) == document
        return document["steps"], reports

    return run


class Ticks:
    """A clock that is a step further each time it is read."""

    def __init__(self, step_s: float):
        self._now, self._step_s = 0.0, step_s

    def __call__(self) -> float:
        self._now += self._step_s
        return self._now


def test_every_step_is_reported_with_what_it_found(visit: Any) -> None:
    steps, reports = visit(("good", 60), ("bad", 60), ("absent", 60))
    assert len(reports) == 3
    assert steps["good"] == {"status": "done", "seconds": steps["good"]["seconds"]} | {
        "found": {"value": 1}
    }
    assert (steps["bad"]["status"], steps["bad"]["found"]) == ("failed", {"so far": 2})
    assert "it broke" in steps["bad"]["output"]
    assert (steps["absent"]["status"], "found" in steps["absent"]) == ("skipped", False)
    assert "no such device" in steps["absent"]["output"]


def test_a_step_that_hangs_is_ended_and_the_next_one_runs(visit: Any) -> None:
    steps, _ = visit(("slow", 3), ("good", 60))
    assert steps["slow"]["status"] == "timed out"
    assert steps["slow"]["found"] == {"so far": 3}
    assert "waiting" in steps["slow"]["output"]
    assert steps["good"]["status"] == "done"


def test_what_has_no_time_left_does_not_start(visit: Any) -> None:
    steps, reports = visit(("slow", 1000), ("good", 1000), deadline_s=100, clock=Ticks(30))
    assert [steps[name]["status"] for name in ("slow", "good")] == ["timed out", "not started"]
    assert len(reports) == 1


def test_a_step_beside_the_others_ends_with_them(visit: Any) -> None:
    steps, reports = visit(("slow", 3, True), ("good", 60))
    assert [steps[name]["status"] for name in ("slow", "good")] == ["timed out", "done"]
    assert len(reports) == 2
    assert json.loads(reports[0])["steps"]["slow"]["status"] == "not started"


def test_each_step_of_the_visit_is_there(modules: dict[str, ModuleType]) -> None:
    visit, steps = modules["visit"], modules["steps"]
    assert {step.name for step in visit.STEPS} == set(steps.STEPS)
    assert all((FOLDER.parent / path).exists() for path in steps.TESTS_ON_A_GPU)
    assert all((FOLDER.parent / path).exists() for path in steps.OTHER_TESTS)
    assert [step.name for step in visit.chosen(["scan"])] == ["scan"]


def test_tables_of_a_visit(modules: dict[str, ModuleType]) -> None:
    document = json.loads((FOLDER / "results/gpu/gpu_visit_h200.json").read_text())
    text = modules["tables"].tables(document)
    assert "| segmamba | float32 | 0.111 | 0.484 | 3.004 | 1.8e-07 | 2.0e-07 |" in text
    assert "| abdomen | 39,321,600 | 14 | 0 | 0.27 | 3.54 |" in text
    assert "| demo | ONNX Runtime | fp16 | refused | | |" in text
    assert "| umamba-bot | phantom | cuda fp32 | 0.85 | 3,456,000 | 32 |" in text
    assert modules["tables"].tables({"steps": {"scan": {"status": "failed"}}}) == ""


def test_verdicts_of_tests(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "tests.xml"
    cases = '<testcase classname="tests.a" name="b"/><testcase classname="a" name="c"><failure/>'
    cases += '</testcase><testcase classname="a" name="d"><skipped message="no"/></testcase>'
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    found = modules["steps"]._verdicts(path)
    assert found == {"passed": ["a::b"], "failed": ["a::c"], "skipped": {"a::d": "no"}}
    assert modules["steps"]._verdicts(tmp_path / "none") == {
        "passed": [],
        "failed": [],
        "skipped": {},
    }


@pytest.mark.parametrize("regions", [False, True])
def test_labels_on_a_pretended_device(
    modules: dict[str, ModuleType], tmp_path: Path, regions: bool
) -> None:
    labels = modules["labels"]
    driver = HostDriver(tmp_path)
    case = labels.Case((9, 12, 50), (8, 8, 40), (11, 10, 60), 3, regions)
    with driver.installed():
        found = labels.compare(case, driver.device(), "cpu")
    assert (found["different"], found["different_when_repeated"]) == (0, 0)
    assert found["labels"] > 1
    assert found["voxels"] == 11 * 10 * 60
