from __future__ import annotations

import socket
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import segmaformer.demo_scan as module
from segmaformer.demo_scan import demo_scan
from segmaformer.runtime.errors import MissingExtraError

needs_nilearn = pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn is not installed")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the demo scan must not need a network")

    monkeypatch.setattr(socket, "socket", refuse)


@needs_nilearn
@pytest.mark.usefixtures("no_network")
def test_is_the_template_in_its_place(tmp_path: Path) -> None:
    path = demo_scan(tmp_path / "new" / "folder")
    assert path.parent == tmp_path / "new" / "folder"
    scan: Any = nib.load(path)
    template: Any = nib.load(module.template_path())
    np.testing.assert_array_equal(np.asarray(scan.dataobj), np.asarray(template.dataobj))
    np.testing.assert_array_equal(scan.affine, template.affine)


@needs_nilearn
def test_header_says_where_the_scan_lies(tmp_path: Path) -> None:
    scan: Any = nib.load(demo_scan(tmp_path))
    assert scan.shape == (197, 233, 189)
    assert scan.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert scan.header.get_zooms() == (1, 1, 1)
    assert scan.header.get_xyzt_units()[0] == "mm"
    for affine, code in (scan.get_sform(coded=True), scan.get_qform(coded=True)):
        assert code == 4
        np.testing.assert_array_equal(affine, scan.affine)


@needs_nilearn
def test_writes_the_same_voxels_again(tmp_path: Path) -> None:
    first: Any = nib.load(demo_scan(tmp_path))
    before = np.asarray(first.dataobj).copy()
    second: Any = nib.load(demo_scan(tmp_path))
    np.testing.assert_array_equal(before, np.asarray(second.dataobj))
    assert len(list(tmp_path.iterdir())) == 1


def test_names_the_extra_when_nilearn_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'segmaformer\[demo\]'"):
        demo_scan(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_nilearn_without_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModuleSpec("nilearn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(module, "find_spec", lambda _: spec)
    with pytest.raises(MissingExtraError, match="has no datasets/data"):
        demo_scan(tmp_path)


@needs_nilearn
def test_refuses_a_target_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        demo_scan(tmp_path / "taken")
