"""Parts of ``benchmarks/gpu/cuda_scan.py`` that need no GPU."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from support.scripts import ROOT, load_script

torch = pytest.importorskip("torch")

from segmaformer.ops import selective_scan
from segmaformer.runtime.bindings.op_library import run_selective_scan


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(ROOT / "benchmarks/gpu/cuda_scan.py")


def test_sizes_by_name_and_by_number(script: ModuleType) -> None:
    sizes = script.parse_sizes("segmamba,10x4x2")
    assert sizes == {"segmamba": script.Sizes(262144, 96, 16), "10x4x2": script.Sizes(10, 4, 2)}


@pytest.mark.parametrize("text", ["segmumba", "10x4", "10x4x2x1", "axbxc", ""])
def test_refuses_other_sizes(script: ModuleType, text: str) -> None:
    with pytest.raises(SystemExit, match="neither LENGTHxCHANNELSxSTATES nor one of segmaformer"):
        script.parse_sizes(text)


def test_refuses_other_types(script: ModuleType) -> None:
    assert script.parse_types("float16,float32") == ["float16", "float32"]
    with pytest.raises(SystemExit, match="int8 is none of float32"):
        script.parse_types("float16,int8")


@pytest.mark.parametrize(("element_type", "size"), [("float32", 4), ("bfloat16", 2)])
def test_floor_is_the_size_of_the_tensors(script: ModuleType, element_type: str, size: int) -> None:
    sizes = script.Sizes(50, 6, 3)
    tensors = script.make_inputs(sizes, element_type, "cpu")
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert script.least_bytes(sizes, element_type) == held
    assert tensors["u"].element_size() == size


@pytest.mark.parametrize("element_type", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("length", [1, 2, 50, 49])
def test_the_reference_is_the_op_in_float64(
    script: ModuleType, element_type: str, length: int
) -> None:
    tensors = script.make_inputs(script.Sizes(length, 6, 3), element_type, "cpu")
    wide = {name: tensor.double() for name, tensor in tensors.items() if name != "y"}
    expected = selective_scan(**wide, delta_softplus=True).numpy()
    np.testing.assert_allclose(script.expected(tensors), expected, rtol=1e-12, atol=1e-12)


def test_arguments_mean_the_op(script: ModuleType) -> None:
    tensors = script.make_inputs(script.Sizes(50, 6, 3), "float32", "cpu")
    run_selective_scan(script.scan_arguments(tensors, "float32"))
    assert script.largest_error(tensors["y"], script.expected(tensors)) < 1e-6


def test_nan_is_an_infinite_error(script: ModuleType) -> None:
    assert script.largest_error(torch.tensor([0.0, torch.nan]), np.ones(2)) == float("inf")


def test_turns_and_their_summary(script: ModuleType) -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in (script.FLOOR, script.OURS)}
    took = iter([9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0])

    def clock(run: object) -> float:
        run()  # type: ignore[operator]
        return next(took)

    milliseconds = script.take_turns(runs, clock, 3)
    assert order == [script.FLOOR, script.OURS] * 4
    assert milliseconds == {script.FLOOR: [1.0, 3.0, 1.0], script.OURS: [2.0, 4.0, 2.0]}
    results = script.summary(milliseconds, {script.OURS: 1e-6}, 4_000_000)
    assert results[script.OURS] == {
        "median_ms": 2.0,
        "fastest_ms": 2.0,
        "gigabytes_per_s": 2.0,
        "of_copy_bandwidth": 0.5,
        "error": 1e-6,
    }
    document = {
        "machine": {"device": "A GPU", "multiprocessors": 8},
        "cases": {"segmamba float16": {"results": results}},
    }
    assert "| segmamba | float16 | sgmf | 2.000 | 2 | 50% | 1.0e-06 |" in script.table(document)


def test_says_that_there_is_no_gpu(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["cuda_scan.py", "--sizes", "segmaformer"])
    with pytest.raises(SystemExit, match="finds no GPU"):
        script.main()
