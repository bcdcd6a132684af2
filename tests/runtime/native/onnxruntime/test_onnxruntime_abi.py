"""Check of the slots that the op library declares for itself, against ONNX Runtime's header."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.native.native_builds import NATIVE

ABI_HEADER = NATIVE / "onnxruntime/abi.h"
OFFICIAL_HEADER = "onnxruntime_c_api.h"

CONSTANTS = {
    "float32": "ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT",
    "float16": "ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16",
    "bfloat16": "ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16",
    "required": "INPUT_OUTPUT_REQUIRED",
    "optional": "INPUT_OUTPUT_OPTIONAL",
    "default_memory": "OrtMemTypeDefault",
    "device_allocator": "OrtDeviceAllocator",
    "log_fatal": "ORT_LOGGING_LEVEL_FATAL",
    "fail": "ORT_FAIL",
    "invalid_argument": "ORT_INVALID_ARGUMENT",
}


def official_folder() -> Path:
    given = os.environ.get("ORT_INCLUDE_DIR")
    roots = [Path(given)] if given else sorted(Path("/usr/include").glob("onnxruntime*"))
    for root in roots:
        for header in sorted(root.rglob(OFFICIAL_HEADER)):
            return header.parent
    pytest.skip(f"no {OFFICIAL_HEADER}; install libonnxruntime-dev or set ORT_INCLUDE_DIR")


def block(text: str, opening: str) -> str:
    start = text.index(opening)
    return text[start : text.index("};", start)]


def checks(abi: str) -> list[str]:
    """Write one static assertion for each slot, member and constant of abi.h."""
    slots = re.findall(r"^  (\w+) = \d+,$", block(abi, "enum Slot"), re.MULTILINE)
    members = re.findall(r"\(\*(\w+)\)\(", block(abi, "struct CustomOp {"))
    allocator = re.findall(r"\(\*(\w+)\)\(", block(abi, "struct Allocator {"))
    base = re.findall(r"\(\*(\w+)\)\(", block(abi, "struct ApiBase {"))
    assert len(slots) == 59
    assert len(members) == 25
    assert len(allocator) == 4
    assert len(base) == 2
    return [
        *(f"offsetof(OrtApi, {name}) == ort::{name} * sizeof(void*)" for name in slots),
        *(f"offsetof(OrtCustomOp, {m}) == offsetof(ort::CustomOp, {m})" for m in members),
        *(f"offsetof(OrtAllocator, {m}) == offsetof(ort::Allocator, {m})" for m in allocator),
        *(f"offsetof(OrtApiBase, {m}) == offsetof(ort::ApiBase, {m})" for m in base),
        *(f"int({official}) == int(ort::{own})" for own, official in CONSTANTS.items()),
        "ORT_API_VERSION >= ort::api_version",
    ]


def compile_checks(abi: str, folder: Path) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (folder / "abi.h").write_text(abi)
    lines = [f"#include <{OFFICIAL_HEADER}>", '#include "abi.h"']
    lines += [f'static_assert({check}, "");' for check in checks(abi)]
    source = folder / "check.cc"
    source.write_text("\n".join(lines))
    command = [compiler, "-std=c++17", "-fsyntax-only", "-Wno-invalid-offsetof"]
    return subprocess.run(
        [*command, "-I", str(official_folder()), "-I", str(folder), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_slot_and_offset(tmp_path: Path) -> None:
    result = compile_checks(ABI_HEADER.read_text(), tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_moved_slot_is_noticed(tmp_path: Path) -> None:
    moved = ABI_HEADER.read_text().replace(
        "KernelContext_GetInput = 90", "KernelContext_GetInput = 91"
    )
    result = compile_checks(moved, tmp_path)
    assert "KernelContext_GetInput" in result.stderr


def test_a_missing_member_is_noticed(tmp_path: Path) -> None:
    text = ABI_HEADER.read_text()
    member = "  void (*KernelCompute)(void*, KernelContext*);\n"
    swapped = text.replace(member, "").replace(
        "  void (*KernelDestroy)(void*);\n", "  void (*KernelDestroy)(void*);\n" + member
    )
    result = compile_checks(swapped, tmp_path)
    assert "KernelDestroy" in result.stderr
