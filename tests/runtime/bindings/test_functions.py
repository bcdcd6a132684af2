"""Declared functions and mirrored structures against the headers that they are of."""

from __future__ import annotations

import ctypes
import importlib
import pkgutil
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native import single_functions
from support.native.native_builds import NATIVE

from segmaformer.runtime import bindings
from segmaformer.runtime.bindings import functions, kernel_structs, label_task, structs
from segmaformer.runtime.bindings.pipeline_call import call

OP_HEADERS = (
    *sorted(f"kernels/interface/{path.name}" for path in (NATIVE / "kernels/interface").iterdir()),
    "python/coarse_model.h",
    "python/pipeline.h",
    "python/run_lengths.h",
    "python/signature.h",
    "system/processors.h",
)
CUDA_HEADERS = ("cuda/label_stream_cuda.h", "cuda/selective_scan_cuda.h")

MIRRORS: dict[str, type[ctypes.Structure]] = {
    "sgmf_selective_scan_args": kernel_structs.SelectiveScanArgs,
    "sgmf_selective_scan_gradient_args": kernel_structs.SelectiveScanGradientArgs,
    "sgmf_tensor": kernel_structs.TensorArgs,
    "sgmf_token_op_args": kernel_structs.TokenOpArgs,
    "sgmf_keep_largest_args": kernel_structs.KeepLargestArgs,
    "sgmf_axis_taps": kernel_structs.AxisTapsArgs,
    "sgmf_blend_tile_args": single_functions.BlendTileArgs,
    "sgmf_divide_lines_args": single_functions.DivideLinesArgs,
    "sgmf_label_resample_args": single_functions.LabelResampleArgs,
    "sgmf_failure": structs.Failure,
    "sgmf_scan": structs.VolumeArgs,
    "sgmf_network_grid": structs.NetworkGridArgs,
    "sgmf_resize": structs.ResizeArgs,
    "sgmf_network": label_task.NetworkArgs,
    "sgmf_device": label_task.DeviceArgs,
    "sgmf_device_logits": label_task.DeviceLogitsArgs,
    "sgmf_memory_budget": label_task.MemoryBudgetArgs,
    "sgmf_label_task": label_task.LabelTaskArgs,
    "sgmf_label_plan": label_task.LabelPlanArgs,
    "sgmf_finished_logits": label_task.FinishedLogitsArgs,
    "sgmf_fill_holes_args": single_functions.FillHolesArgs,
    "sgmf_axis_resample_args": single_functions.AxisResampleArgs,
    "sgmf_segment_args": single_functions.SegmentArgs,
}
CALLBACKS = {
    "sgmf_take_logits": label_task.TAKE_LOGITS,
    "sgmf_run_tiles": label_task.RUN_TILES,
    "sgmf_progress": label_task.PROGRESS,
}
NUMBERS = {
    "int32_t": (ctypes.c_int32, np.int32),
    "int64_t": (ctypes.c_int64, np.int64),
    "size_t": (ctypes.c_size_t, np.uintp),
    "uint8_t": (ctypes.c_uint8, np.uint8),
    "float": (ctypes.c_float, np.float32),
    "double": (ctypes.c_double, np.float64),
    "char": (ctypes.c_char, np.uint8),
}


def modules_of_bindings() -> Iterator[Any]:
    for found in pkgutil.iter_modules(bindings.__path__):
        yield importlib.import_module(f"{bindings.__name__}.{found.name}")


def structures_of(module: Any) -> set[type[ctypes.Structure]]:
    return {
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, ctypes.Structure)
        and each is not ctypes.Structure
    }


def test_every_mirror_has_its_row() -> None:
    modules = (*modules_of_bindings(), single_functions)
    assert set.union(*map(structures_of, modules)) == set(MIRRORS.values())


def test_structures_are_laid_out_as_their_mirrors(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    checks = []
    for name, mirror in MIRRORS.items():
        checks.append(f"sizeof({name}) == {ctypes.sizeof(mirror)}")
        for field, *_ in mirror._fields_:
            place: Any = getattr(mirror, field)
            checks.append(f"offsetof({name}, {field}) == {place.offset}")
            checks.append(f"sizeof((({name}*)0)->{field}) == {place.size}")
    lines = [f'#include "{header}"' for header in (*OP_HEADERS, *CUDA_HEADERS)]
    lines += ["#include <stddef.h>", *(f'_Static_assert({each}, "{each}");' for each in checks)]
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run([compiler, "-std=c11", "-fsyntax-only", f"-I{NATIVE}", str(source)], check=True)


def prototypes(headers: tuple[str, ...]) -> dict[str, list[str]]:
    """Types that functions return and take, as the headers spell them."""
    found = {}
    for header in headers:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", (NATIVE / header).read_text(), flags=re.DOTALL)
        for returns, name, takes in re.findall(r"SGMF_API\s+([^;()]+?)(\w+)\(([^;]*?)\);", text):
            types = [] if takes.strip() == "void" else takes.split(",")
            found[name] = [returns.strip(), *map(type_of, types)]
    return found


def type_of(parameter: str) -> str:
    """Its type, a pointer for an array."""
    words = " ".join(parameter.split())
    return words.rpartition(" ")[0] + "*" * words.count("[")


def fits(spelled: str, declared: Any) -> bool:
    """Tell if a declared parameter or result has the type that a header spells."""
    kind = spelled.replace("const ", "").replace(" const", "")
    if kind == "void":
        return declared is None
    if kind in CALLBACKS:
        return declared is CALLBACKS[kind]
    if not kind.endswith("*"):
        return declared is NUMBERS[kind][0]
    if kind[:-1] in MIRRORS:
        return declared is ctypes.POINTER(MIRRORS[kind[:-1]])
    if declared is ctypes.c_char_p:
        return spelled in ("const char*", "const void*")
    if declared is ctypes.c_void_p:
        return True
    number = np.uintp if kind.endswith("**") else NUMBERS[kind[:-1]][1]
    return bool(declared._dtype_ == np.dtype(number))


@pytest.mark.parametrize(
    ("headers", "declared"),
    [
        (OP_HEADERS, functions.OP_LIBRARY | single_functions.OP_LIBRARY),
        (CUDA_HEADERS, single_functions.CUDA_LIBRARY),
    ],
)
def test_functions_are_declared_as_the_headers_have_them(
    headers: tuple[str, ...], declared: functions.Signatures
) -> None:
    expected = prototypes(headers)
    assert declared.keys() == expected.keys()
    for name, types in expected.items():
        assert len(declared[name]) == len(types), name
        for spelled, kind in zip(types, declared[name], strict=True):
            assert fits(spelled, kind), f"{name}: {spelled} is declared as {kind}"


@pytest.mark.parametrize("affine", [np.eye(4, dtype=np.float32), np.eye(8)[::2, ::2], np.eye(3)])
def test_an_array_that_does_not_fit_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ctypes.ArgumentError, match="array must have"):
        call("sgmf_measure_affine", affine, np.empty(3))
