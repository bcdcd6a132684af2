"""Every Python example of the README and the docs runs, or says why it is only compiled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.packages.samples import head_like, write_scan
from support.packages.small_packages import write_package
from support.scans.dicom_files import Series

from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

_BLOCK = re.compile(r"(<!-- compiled only: [^>]+ -->\n)?^```python\n(.*?)^```$", re.M | re.S)


class Example(NamedTuple):
    line: int
    code: str
    runs: bool


def examples(page: Path) -> list[Example]:
    text = page.read_text(encoding="utf-8")
    return [
        Example(text.count("\n", 0, block.start(2)), block[2], runs=block[1] is None)
        for block in _BLOCK.finditer(text)
    ]


PAGES_WITH_EXAMPLES = [page for page in PAGES if examples(page)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with the package and the scan that the examples name."""
    preprocessing = Preprocessing(("T1",), (Normalization("zscore"),))
    output = Output((Label(0, "background"), Label(1, "hippocampus")))
    for name in ("model.sgmf", "brain.sgmf"):
        write_package(tmp_path / name, preprocessing, output)
    scan = head_like((24, 28, 20))
    write_scan(tmp_path / "scan.nii.gz", scan)
    Series((scan * 100).astype("i2"), number=4).write(tmp_path / "study")
    return tmp_path


@pytest.mark.parametrize("page", PAGES_WITH_EXAMPLES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run_one_after_another(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "example"}
    for example in examples(page):
        code = compile("\n" * example.line + example.code, str(page), "exec")
        if example.runs:
            exec(code, names)


def test_the_runtime_examples_of_the_readme_write_a_label_map(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    exec(examples(ROOT / "README.md")[0].code, {})
    assert (folder / "labels.nii.gz").is_file()
