"""The arithmetic of ``benchmarks/tile.py``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(ROOT / "benchmarks/tile.py")


def described(kind: str, inputs: list[list[int]], output: list[int]) -> dict[str, Any]:
    """Make a node as ONNX Runtime's profile describes it."""
    return {
        "op_name": kind,
        "input_type_shape": [{"float": shape} for shape in inputs],
        "output_type_shape": [{"float": output}],
    }


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "expected"),
    [
        ("DepthwiseConv3d", [[1, 4, 4, 4, 6], [6, 1, 3, 3, 3]], [1, 4, 4, 4, 6], 6 * 64 * 27),
        ("Conv", [[1, 4, 8, 8, 8], [6, 4, 3, 3, 3], [6]], [1, 6, 8, 8, 8], 6 * 512 * 4 * 27),
        ("FusedConv", [[1, 6, 8, 8, 8], [6, 1, 3, 3, 3]], [1, 6, 4, 4, 4], 6 * 64 * 27),
        ("MatMul", [[2, 5, 7], [7, 3]], [2, 5, 3], 2 * 5 * 7 * 3),
        ("FusedMatMul", [[2, 7, 5], [7, 3]], [2, 5, 3], 2 * 5 * 7 * 3),
        ("Gemm", [[5, 7], [3, 7], [3]], [5, 3], 5 * 7 * 3),
        ("NormLinear", [[2, 5, 7], [7, 3], [3], [7], [7]], [2, 5, 3], 2 * 5 * 7 * 3),
        ("FoldedNorm", [[2, 5, 7], [7, 4], [4]], [2, 5, 8], 2 * 5 * 7 * 4),
        ("PatchEmbed", [[1, 4, 8, 8, 8], [6, 4, 3, 3, 3]], [1, 4, 4, 4, 6], 6 * 4 * 8 * 125),
        ("PatchEmbed", [[1, 4, 8, 8, 8], [6, 4, 5, 5, 5]], [1, 4, 4, 4, 6], 6 * 4 * 64 * 125),
        ("Add", [[5, 7], [5, 7]], [5, 7], 0),
    ],
)
def test_multiplications(
    script: ModuleType, kind: str, inputs: list[list[int]], output: list[int], expected: int
) -> None:
    assert script.multiplications(described(kind, inputs, output)) == expected


@pytest.mark.parametrize(
    ("taps", "strides", "products"),
    [
        ((3, 3, 3), (1, 1, 1), 144 / 32),
        ((1, 3, 3), (1, 1, 1), 36 / 16),
        ((3, 3, 3), (2, 2, 2), 125 / 8),
        ((3, 3, 3), (1, 2, 2), 100 / 8),
        ((1, 3, 3), (1, 2, 2), 25 / 4),
        ((1, 1, 1), (1, 1, 1), 1),
    ],
)
def test_winograd_takes_fewer_products_than_a_direct_convolution(
    script: ModuleType, taps: tuple[int, ...], strides: tuple[int, ...], products: float
) -> None:
    made = [8 // stride for stride in strides]
    dense = described("Conv3d", [[1, 4, 8, 8, 8], [6, 4, *taps]], [1, 6, *made])
    outputs = 6 * int(np.prod(made))
    assert script.multiplications(dense) == outputs * 4 * products
    assert script.multiplications(dense, direct=True) == outputs * 4 * np.prod(taps)


def test_transposed_convolutions_are_described_without_their_weight(script: ModuleType) -> None:
    description = described("ConvTranspose", [[1, 6, 4, 4, 4]], [1, 2, 8, 8, 8])
    assert script.multiplications(description, (6, 2, 2, 2, 2)) == 6 * 64 * 2 * 8
    own = described("ConvTranspose3d", [[1, 6, 4, 4, 4], [6, 2, 2, 2, 2]], [1, 2, 8, 8, 8])
    assert script.multiplications(own) == 6 * 64 * 2 * 8


@pytest.mark.parametrize(("least", "floor_ms"), [(100, 50.0), (900, 90.0)])
def test_the_floor_is_the_longer_of_products_and_bytes(
    script: ModuleType, least: int, floor_ms: float
) -> None:
    work = {
        "multiplications": 500,
        "direct_multiplications": 900,
        "least_bytes": least,
        "moved_bytes": 2000,
    }
    limits = {"multiplications_per_s": 1e4, "bytes_per_s": 1e4}
    found = script.floor(work, limits)
    expected = {"products_ms": 50.0, "direct_ms": 90.0, "moved_ms": 200.0, "floor_ms": floor_ms}
    assert found == expected


def test_a_profile_counts_what_the_network_multiplies(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    from support.graphs.small_onnx import CHANNELS, TILE, small_network

    onnx.save(small_network(), tmp_path / "small.onnx")
    monkeypatch.setattr(script, "_tile", lambda name: np.zeros((1, 1, *TILE), np.float32))
    found = script.profile("small", tmp_path / "small.onnx")
    c, voxels = CHANNELS, int(np.prod(TILE))
    per_voxel = 27 * c + 27 * c + c * c + 27 * c * c + c * c + 3 * c
    assert found["multiplications"] == voxels * per_voxel
    assert found["least_bytes"] > 4 * 4 * voxels
    assert {"Conv", "InstanceNormalization"} <= found["operators_ms"].keys()
