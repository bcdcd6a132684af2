"""GCC builds what is installed; the sources are for clang as well."""

from __future__ import annotations

import platform
import shutil
import subprocess

import pytest
from support.native.native_builds import NATIVE

ISA = NATIVE / "kernels/isa"


def test_clang_takes_the_sources_without_a_warning() -> None:
    clang = shutil.which("clang++")
    if clang is None:
        pytest.skip("no clang++")
    sources = [
        path for path in sorted((NATIVE / "kernels").rglob("*.cc")) if ISA not in path.parents
    ]
    command = [clang, "-fsyntax-only", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{NATIVE}"]
    if platform.machine() in ("x86_64", "AMD64"):
        command.append("-DSGMF_HAS_X86")
    result = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
