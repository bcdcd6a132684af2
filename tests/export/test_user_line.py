"""Lines of a user's code in errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from segmaformer.export.user_line import user_line


def _load(path: Path, source: str) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    names: dict[str, Any] = {"__name__": path.stem}
    exec(compile(source, str(path), "exec"), names)
    return names


@pytest.mark.parametrize(
    ("of_block", "named"),
    [
        ("user/block.py", "user/block.py, line 2"),
        ("site-packages/block.py", "user/network.py, line 3"),
    ],
)
def test_the_innermost_line_of_the_users_own_code(
    tmp_path: Path, of_block: str, named: str
) -> None:
    block = _load(tmp_path / of_block, "def block(x):\n    return x['absent']\n")
    source = "def forward(x):\n\n    return block(x)\n"
    network = _load(tmp_path / "user/network.py", source)
    network["block"] = block["block"]
    with pytest.raises(KeyError) as caught:
        network["forward"]({})
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # this test's own line
    assert user_line(caught.value) == f" ({tmp_path / named})"


def test_installed_code_alone_is_named(tmp_path: Path) -> None:
    network = _load(tmp_path / "site-packages/network.py", "def forward(x):\n    return 1 / x\n")
    with pytest.raises(ZeroDivisionError) as caught:
        network["forward"](0)
    caught.value.__traceback__ = caught.value.__traceback__.tb_next
    assert user_line(caught.value) == f" ({tmp_path}/site-packages/network.py, line 2)"


def test_no_line_where_no_code_of_the_user_ran() -> None:
    with pytest.raises(ValueError, match="Expecting value") as caught:
        json.loads("")
    caught.value.__traceback__ = caught.value.__traceback__.tb_next
    assert user_line(caught.value) == ""
