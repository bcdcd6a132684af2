"""The C headers from C and C++, and the self-checks on this processor and on 64-bit Arm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.native.native_builds import NATIVE

from segmaformer.runtime.bindings.op_library import cpu_isas, op_library_path

C_HEADERS = [
    *sorted((NATIVE / "kernels/interface").glob("*.h")),
    *(NATIVE / name for name in ("cuda/selective_scan_cuda.h", "cuda/label_stream_cuda.h")),
    *(
        NATIVE / name
        for name in ("python/pipeline.h", "python/coarse_model.h", "system/processors.h")
    ),
]
SELF_CHECKS = ("selective_scan_check", "token_ops_check")


def compiler(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"none of {', '.join(names)} is installed")


@pytest.mark.parametrize("header", C_HEADERS, ids=lambda p: p.name)
def test_headers_are_c(header: Path, tmp_path: Path) -> None:
    source = tmp_path / "include.c"
    source.write_text(f'#include "{header.relative_to(NATIVE)}"\n')
    command = [compiler("cc", "gcc", "clang"), "-std=c99", "-Wall", "-Wextra", "-pedantic-errors"]
    subprocess.run([*command, "-fsyntax-only", "-I", str(NATIVE), str(source)], check=True)


@pytest.mark.parametrize("check", SELF_CHECKS)
def test_self_check_of_the_installed_library(check: str, tmp_path: Path) -> None:
    library = op_library_path()
    program = tmp_path / "check"
    command = [
        compiler("c++", "g++", "clang++"),
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    subprocess.run(
        [
            *command,
            *(
                "-I",
                str(NATIVE),
                str(Path(__file__).with_name(f"{check}.cc")),
                str(library),
            ),
            *(f"-Wl,-rpath,{library.parent}", "-o", str(program)),
        ],
        check=True,
    )
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == cpu_isas()


def test_self_check_on_64_bit_arm(tmp_path: Path) -> None:
    compiler("aarch64-linux-gnu-g++")
    compiler("qemu-aarch64")
    compiler("cmake")
    result = subprocess.run(
        [str(NATIVE / "checks/check_aarch64.sh"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    checks = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert checks == ["neon"] * len(SELF_CHECKS)
