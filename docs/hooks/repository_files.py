"""Bring files from outside docs/ into the site, below repository/, where pages link to them.

In the repository a page links to ``../../examples/embedding/segment_raw.c``, which works in
any viewer. The site gets a copy of each such file, and the link leads to the copy.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
COPIES = "repository/"
DOCS = "docs/"
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to, and the files those link to."""
    pages = [DOCS + file.src_uri for file in files.documentation_pages()]
    known = set(pages)
    while pages:
        page = pages.pop()
        for path in _linked_files(page) - known:
            known.add(path)
            if path.startswith(DOCS):
                continue
            copy = COPIES + path
            files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
            if path.endswith(".md"):
                pages.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to and from the copies to their places in the site."""
    here = page.file.src_uri
    source = here.removeprefix(COPIES) if here.startswith(COPIES) else DOCS + here

    def moved(link: re.Match[str]) -> str:
        path = normpath(join(dirname(source), link[1]))
        place = path.removeprefix(DOCS) if path.startswith(DOCS) else COPIES + path
        return relpath(place, dirname(here))

    return _LINK.sub(moved, markdown)


def _linked_files(page: str) -> set[str]:
    """Files that a page links to, as paths from the root of the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = {normpath(join(dirname(page), link)) for link in _LINK.findall(text)}
    return {path for path in paths if (ROOT / path).is_file()}
