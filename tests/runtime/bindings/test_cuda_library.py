from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import segmaformer.runtime
from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.bindings.kernel_structs import SelectiveScanArgs
from segmaformer.runtime.errors import BackendError


@pytest.fixture
def other_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the lib folder of an installation that did not build the library."""
    monkeypatch.setattr(segmaformer.runtime, "__path__", [str(tmp_path)])
    cuda_library.cuda_library.cache_clear()
    (tmp_path / "lib").mkdir()
    yield tmp_path / "lib"
    cuda_library.cuda_library.cache_clear()


@pytest.fixture
def installed() -> None:
    try:
        cuda_library.cuda_library_path()
    except BackendError as error:
        pytest.skip(str(error))


def test_missing_library(other_installation: Path) -> None:
    with pytest.raises(BackendError, match=r"not part of this installation; reinstall .* nvcc"):
        cuda_library.cuda_library()


def test_library_of_another_machine(other_installation: Path) -> None:
    (other_installation / "libsgmf_cuda.so").write_bytes(os.urandom(64))
    with pytest.raises(BackendError, match=r"libsgmf_cuda\.so cannot be loaded"):
        cuda_library.cuda_library()


@pytest.mark.usefixtures("installed")
def test_plan_needs_no_device() -> None:
    args = SelectiveScanArgs(batch=1, length=32768, channels=64, states=16)
    plan = cuda_library.cuda_library().sgmf_selective_scan_cuda_workspace
    small, large = (plan(args, processors) for processors in (8, 132))
    assert 0 < small < large < 1 << 22


@pytest.mark.usefixtures("installed")
def test_refused_scan_says_why() -> None:
    with pytest.raises(BackendError, match="sgmf_selective_scan_cuda failed: the number of states"):
        cuda_library.enqueue("sgmf_selective_scan_cuda", SelectiveScanArgs(), None, 0, 8, None)
