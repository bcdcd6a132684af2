from __future__ import annotations

from pathlib import Path

import pytest
from support.native.single_functions import Library, cuda_library, enqueue

import segmaformer.runtime
from segmaformer.runtime.bindings.cuda_library import cuda_library_path
from segmaformer.runtime.bindings.kernel_structs import SelectiveScanArgs
from segmaformer.runtime.errors import BackendError


@pytest.fixture
def installed() -> Library:
    try:
        return cuda_library()
    except BackendError as error:
        pytest.skip(str(error))


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmaformer.runtime, "__path__", [str(tmp_path)])
    with pytest.raises(BackendError, match=r"not part of this installation; reinstall .* nvcc"):
        cuda_library_path()


def test_plan_needs_no_device(installed: Library) -> None:
    args = SelectiveScanArgs(batch=1, length=32768, channels=64, states=16)
    plan = installed.sgmf_selective_scan_cuda_workspace
    small, large = (plan(args, processors) for processors in (8, 132))
    assert 0 < small < large < 1 << 23


def test_refused_scan_says_why(installed: Library) -> None:
    with pytest.raises(BackendError, match="sgmf_selective_scan_cuda failed: the number of states"):
        enqueue(installed, "sgmf_selective_scan_cuda", SelectiveScanArgs(), None, 0, 8, None)
