"""Many runs and many threads; check_sanitizers.sh runs the same programs for longer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.native.libsgmf import library_path, onnxruntime_path

pytestmark = pytest.mark.usefixtures("every_processor")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    folder, library = tmp_path_factory.mktemp("programs"), library_path()
    for name in ("stress", "endurance"):
        source = Path(__file__).with_name(f"{name}.c")
        command = [compiler, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
        command += [f"-I{library.parents[1] / 'include'}", str(source), str(library)]
        command += [f"-Wl,-rpath,{library.parent}", "-pthread", "-lm", "-o", str(folder / name)]
        subprocess.run(command, check=True)
    return folder


def run(program: Path, *arguments: object) -> str:
    environment = {
        **os.environ,
        "SGMF_ONNXRUNTIME": str(onnxruntime_path()),
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",  # whose blocks count as in use
    }
    command = [str(program), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_on_four_handles(programs: Path, ct_package: Path, threads: int) -> None:
    summary = run(programs / "stress", ct_package, 4, threads)
    completed, cancelled, wrong = (int(part.split()[0]) for part in summary.split(","))
    assert wrong == 0
    assert completed + cancelled == 8 * 4


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="memory as Linux reports it")
def test_runs_leave_no_memory_behind(programs: Path, ct_package: Path) -> None:
    assert run(programs / "endurance", ct_package, 100).startswith("heap ")


def test_nothing_is_sent_or_kept_by_onnxruntime(
    programs: Path, ct_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its official builds write an identifier of the machine before they send anything."""
    for variable in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run(programs / "stress", ct_package, 1, 1)
    assert list(tmp_path.iterdir()) == []
