"""Links between files of the repository, and paths of docs that code and messages name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split("\0")
TEXTS = {".c", ".cc", ".cu", ".h", ".md", ".py", ".sh", ".toml", ".yml"}

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]+))?\)")
_NAMED_PAGE = re.compile(r"\bdocs/[\w/-]+\.md\b")


def headings(page: Path) -> set[str]:
    """Anchors of a page, as viewers of Markdown make them from its headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    lines = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("name", [name for name in TRACKED if name.endswith(".md")])
def test_links_lead_to_files_and_headings(name: str) -> None:
    page = ROOT / name
    broken = []
    for path, anchor in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(f"{path}#{anchor}")
    assert not broken


def test_code_and_messages_name_pages_that_exist() -> None:
    wrong = {
        f"{name} names {page}"
        for name in TRACKED
        if Path(name).suffix in TEXTS and (ROOT / name).is_file()
        for page in _NAMED_PAGE.findall((ROOT / name).read_text(encoding="utf-8"))
        if not (ROOT / page).is_file()
    }
    assert not wrong


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    assert "://" not in settings
