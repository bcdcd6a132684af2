from __future__ import annotations

import sys

import numpy as np
import pytest

from segmaformer.runtime.system import memory


def test_default_is_a_share_of_what_is_available() -> None:
    budget = memory.default_budget_bytes()
    assert 64 * memory.MIB < budget < memory._available_to_machine()


def test_control_group_limits_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_to_control_groups", lambda: 100.0 * memory.MIB)
    assert memory.default_budget_bytes() == int(100 * memory.MIB * memory.DEFAULT_SHARE)


def test_processes_that_share_a_budget_have_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_default_limit", None)
    whole = memory.default_budget_bytes()
    memory.limit_default(whole // 4)
    assert memory.default_budget_bytes() == whole // 4
    memory.limit_default(None)
    assert memory.default_budget_bytes() > whole // 4


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_the_peak_starts_anew() -> None:
    content = np.ones(64 * memory.MIB, np.uint8)
    before = memory.peak_mib()
    del content
    memory.restart_peak()
    after = memory.peak_mib()
    assert before is not None
    assert after is not None
    if after == before:
        pytest.skip("this system does not let a process restart its peak")
    assert after < before - 32
