from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import segmaformer.runtime
from segmaformer.runtime.bindings import op_library
from segmaformer.runtime.errors import BackendError


@pytest.fixture
def other_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the lib folder of an installation that did not build the library."""
    monkeypatch.setattr(segmaformer.runtime, "__path__", [str(tmp_path)])
    op_library.op_library.cache_clear()
    (tmp_path / "lib").mkdir()
    yield tmp_path / "lib"
    op_library.op_library.cache_clear()


def test_path_is_the_built_library() -> None:
    path = op_library.op_library_path()
    assert path.is_absolute()
    assert hasattr(ctypes.CDLL(str(path)), "RegisterCustomOps")


def test_instruction_sets_end_with_one_that_always_runs() -> None:
    names = op_library.cpu_isas()
    assert names[-1] in ("portable", "neon")
    assert set(names) <= {"avx512", "avx2", "neon", "portable"}


def test_missing_library(other_installation: Path) -> None:
    with pytest.raises(BackendError, match="not part of this installation; reinstall"):
        op_library.op_library_path()


def test_library_of_another_machine(other_installation: Path) -> None:
    (other_installation / "libsgmf_ops.so").write_bytes(os.urandom(64))
    with pytest.raises(BackendError, match=r"libsgmf_ops\.so cannot be loaded"):
        op_library.cpu_isas()


@pytest.mark.parametrize("threads", [0, 3])
def test_registration_tells_the_threads(threads: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    op_library.register_op_library(options)
    if threads:
        assert options.get_session_config_entry("segmaformer.threads") == "3"
    else:
        with pytest.raises(Exception, match=r"segmaformer\.threads"):
            options.get_session_config_entry("segmaformer.threads")
