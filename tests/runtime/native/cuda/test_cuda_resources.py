from __future__ import annotations

import shutil
import subprocess

import pytest
from support.native.native_builds import NATIVE


def account(kernel: str, architecture: int, registers: int, spilled: int = 0) -> str:
    return (
        f"ptxas info    : Compiling entry function '{kernel}' for 'sm_{architecture}'\n"
        f"ptxas info    : Function properties for {kernel}\n"
        f"    8 bytes stack frame, {spilled} bytes spill stores, {spilled} bytes spill loads\n"
        f"ptxas info    : Used {registers} registers, used 1 barriers\n"
    )


SCAN = "_ZN4sgmf4cuda10run_chunksILi16ELb1EEEvNS0_4ScanE"
CARRIES = "_ZN4sgmf4cuda12pass_carriesENS0_4ScanE"
WHOLE = (
    account(SCAN, 110, 94) + account(SCAN, 87, 96) + account(CARRIES, 110, 1)
) + "[100%] Built target\n"


def table(log: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("awk") is None:
        pytest.skip("no awk")
    return subprocess.run(
        ["awk", "-f", str(NATIVE / "checks/resources.awk")],
        input=log,
        capture_output=True,
        text=True,
        check=False,
    )


def test_table() -> None:
    result = table(WHOLE + account(CARRIES, 87, 128))
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "| registers of a thread | sm_87 | sm_110 |",
        "|---|---:|---:|",
        "| `run_chunks<16, true>` | 96 | 94 |",
        "| `pass_carries` | 128 | 1 |",
    ]


def test_spilled_registers() -> None:
    result = table(WHOLE + account(CARRIES, 87, 128, spilled=16))
    assert result.returncode == 1
    assert "spilled: pass_carries on sm_87" in result.stderr


@pytest.mark.parametrize("log", ["", "make: done\n", WHOLE])
def test_incomplete_account(log: str) -> None:
    assert table(log).returncode == 2
