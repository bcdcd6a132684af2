"""Check of the product's docstrings: plain summaries, and texts that say something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("segmaformer", "export", "calibration", "runtime")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
RIDDLE = re.compile(
    r"(As|For|From|How|If|In|Of|That|To|What|When|Where|Whether|Which|Who|Whose|Why|With)\b"
)
ONE_WORD = re.compile(r"^\S.*\n {4}\S+$(?!\n {4})", re.MULTILINE)
"""Name of a parameter, result or error, and a text of one word."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_are_plain(path: Path) -> None:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, DOCUMENTED)]
    texts = [text for node in nodes if (text := ast.get_docstring(node))]
    assert [text.partition("\n")[0] for text in texts if RIDDLE.match(text)] == []
    assert [found[0] for text in texts for found in ONE_WORD.finditer(text)] == []


def test_riddles_are_found() -> None:
    assert RIDDLE.match("What is kept.")
    assert not RIDDLE.match("Whole scans.")
    assert ONE_WORD.search(
        "Run.\n\nParameters\n----------\ndevice\n    Which.\nseed\n    A number."
    )
    assert not ONE_WORD.search("device\n    Which\n    one.")
