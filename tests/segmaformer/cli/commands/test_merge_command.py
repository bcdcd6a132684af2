from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segmaformer.cli.console import versioned

Sgmf = Callable[..., Any]
DONE = {"scan": ["a.nii"], "exit_code": 0}
SKIPPED = {"scan": ["a.nii"], "skipped": True}
FAILED = {"scan": ["a.nii"], "exit_code": 1, "error": "no memory"}
REFUSED = {"scan": ["b.nii"], "exit_code": 3, "error": "no scan"}


def write(path: Path, results: list[dict[str, Any]], model: str = "m.sgmf") -> Path:
    path.write_text(json.dumps({"model": model, "results": results}))
    return path


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_scan_counts_once_by_its_best_fate(
    sgmf: Sgmf, tmp_path: Path, order: tuple[int, ...]
) -> None:
    parts = [
        write(tmp_path / f"{index}.json", [result, REFUSED])
        for index, result in enumerate((DONE, SKIPPED, FAILED))
    ]
    run = sgmf("merge", *(parts[index] for index in order), "-o", tmp_path / "all.json")
    assert (run.code, run.stdout) == (3, f"{tmp_path / 'all.json'}\n")
    assert run.stderr.splitlines() == ["b.nii  refused  no scan", "1 done, 1 refused"]
    whole = json.loads((tmp_path / "all.json").read_text())
    assert whole == versioned({"model": "m.sgmf", "results": [DONE, REFUSED]})


def test_lines_of_results_are_merged_too(sgmf: Sgmf, tmp_path: Path) -> None:
    lines = tmp_path / "results.ndjson"
    lines.write_text(f"{json.dumps(FAILED)}\n{json.dumps(DONE)}\n")
    run = sgmf("merge", lines, "--json")
    assert run.code == 0
    assert json.loads(run.stdout)["results"] == [DONE]


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON", '{"results": [{"scan": 1}]}'])
def test_other_files_are_refused(sgmf: Sgmf, tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    run = sgmf("merge", tmp_path / "x.json")
    assert run.code == 2
    assert "x.json" in run.stderr


def test_packages_are_not_mixed(sgmf: Sgmf, tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{name}.json", [DONE], name) for name in ("one", "two")]
    run = sgmf("merge", *parts)
    assert (run.code, "several packages: one, two" in run.stderr) == (2, True)
