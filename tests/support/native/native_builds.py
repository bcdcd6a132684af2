"""Builds of native code for tests, without a GPU or parts that only come with one."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from segmaformer.runtime.bindings.op_library import op_library_path

NATIVE = Path(__file__).parents[3] / "runtime/native"
STAND_INS = Path(__file__).parents[1] / "stand_ins"

SCAN_ON_HOST = STAND_INS / "scan_on_host.cc"
"""The GPU scan's C functions over the scan on the CPU."""


def compile_library(
    output: Path, sources: Sequence[Path], *options: str, over_op_library: bool = True
) -> Path:
    """Compile sources of this project into a shared library, with every warning an error."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folders = [NATIVE, NATIVE / "include"]
    command = [compiler, "-std=c++17", "-O0", "-fPIC", "-shared", "-fvisibility=hidden"]
    # The folders of `options` come first, so that a changed copy may stand for a source.
    command += ["-Wall", "-Wextra", "-Werror", *options, *(f"-I{folder}" for folder in folders)]
    command += [str(source) for source in sources]
    if over_op_library:
        library = op_library_path()
        command += [str(library), f"-Wl,-rpath,{library.parent}"]
    output.write_bytes(_compiled(tuple(command)))
    return output


@functools.cache
def _compiled(command: tuple[str, ...]) -> bytes:
    """Run a compiler once for all tests of a process that build the same; return its output."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "library.so")
        result = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return output.read_bytes() if "-fsyntax-only" not in command else b""


def exported_symbols(library: Path) -> set[str]:
    """List the names that a shared library exports."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm")
    listing = subprocess.run(
        [nm, "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in listing.stdout.splitlines()}


def cuda_include_dir() -> Path:
    """Find the folder of CUDA's headers."""
    nvcc = shutil.which("nvcc")
    given = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    roots = [Path(root) for root in given] + [Path("/usr/local/cuda")]
    if nvcc:
        roots.append(Path(nvcc).resolve().parents[1])
    for root in roots:
        if (root / "include/cuda_runtime_api.h").is_file():
            return root / "include"
    pytest.skip("no CUDA headers; install a CUDA toolkit or set CUDA_HOME")


def json_headers() -> Path:
    """Find the folder that holds nlohmann/json.hpp."""
    found = importlib.util.find_spec("nlohmann_json")
    if found is not None and found.submodule_search_locations:
        return Path(found.submodule_search_locations[0]) / "include"
    if Path("/usr/include/nlohmann/json.hpp").exists():
        return Path("/usr/include")
    pytest.skip("no nlohmann/json.hpp; pip install nlohmann-json")


def tensorrt_include_dirs() -> list[Path]:
    """Find folders of TensorRT's headers, those in TENSORRT_INCLUDE_DIR before the usual places."""
    given = os.environ.get("TENSORRT_INCLUDE_DIR", "")
    folders = [Path(folder) for folder in given.split(os.pathsep) if folder]
    folders += [Path(f"/usr/include/{machine}-linux-gnu") for machine in ("x86_64", "aarch64")]
    folders += [Path("/usr/include"), Path("/usr/local/cuda/include")]
    return [folder for folder in folders if (folder / "NvInfer.h").is_file()]
