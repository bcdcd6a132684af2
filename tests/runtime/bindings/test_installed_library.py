from __future__ import annotations

from pathlib import Path

import pytest

import segmaformer.runtime
from segmaformer.runtime.bindings.installed_library import installed_library, load_library
from segmaformer.runtime.errors import BackendError


def test_the_op_library_lies_in_the_installation() -> None:
    path = installed_library("libsgmf_ops", what="op library", remedy="reinstall")
    assert path.is_absolute()
    assert path.parent.name == "lib"


def test_what_is_missing_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(segmaformer.runtime, "__path__", [str(tmp_path)])
    with pytest.raises(BackendError, match=r"the op library libsgmf_ops is not part .*; build it"):
        installed_library("libsgmf_ops", what="op library", remedy="build it")


def test_a_library_of_another_machine_is_named(tmp_path: Path) -> None:
    path = tmp_path / "libsgmf_ops.so"
    path.write_bytes(bytes(64))
    with pytest.raises(BackendError, match=r"libsgmf_ops\.so cannot be loaded .*; reinstall"):
        load_library(path)
