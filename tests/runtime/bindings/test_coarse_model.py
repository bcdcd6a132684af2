"""Logits whose last upsampling is left to the pipeline: the same numbers, and the same labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.samples import head_like

from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.backends import BackendOptions, onnxruntime_cpu
from segmaformer.runtime.bindings.coarse_model import enlarged, without_last_upsampling
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, run_token_op
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Output, Region, Resampling, Tiling, Triple

onnx = pytest.importorskip("onnx")
onnx_ml: Any = onnx.helper

DOMAIN = "segmaformer"
COARSE, SCALES = (3, 4, 5), (2, 1, 3)
TILE: Triple = (6, 4, 15)
CLASSES, PLENTY = 3, 1 << 40


def upsampled(logits: np.ndarray, scales: tuple[int, ...] = SCALES) -> np.ndarray:
    batch, classes, *grid = logits.shape
    shape = (batch, classes, *(n * s for n, s in zip(grid, scales, strict=True)))
    result = np.empty(shape, np.float32)
    attributes = TokenOpAttributes(scales=tuple(map(float, scales)))
    run_token_op("Upsample", [np.ascontiguousarray(logits)], attributes, result)
    return result


def model(
    change: Callable[[Any], None] = lambda graph: None, scales: tuple[float, ...] = SCALES
) -> bytes:
    """Model of twice its input, upsampled."""
    node, info, single = onnx_ml.make_node, onnx_ml.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx_ml.make_graph(
        [
            node("Add", ["x", "x"], ["coarse"]),
            node(
                "Upsample", ["coarse"], ["y"], domain="segmaformer", scales=list(map(float, scales))
            ),
        ],
        "ends with an upsampling",
        [info("x", single, ["batch", CLASSES, *COARSE])],
        [info("y", single, ["batch", CLASSES, *TILE])],
        value_info=[info("coarse", single, ["batch", CLASSES, *COARSE])],
    )
    change(graph)
    opsets = [onnx_ml.make_opsetid("", 18), onnx_ml.make_opsetid("segmaformer", 1)]
    content: bytes = onnx_ml.make_model(
        graph, opset_imports=opsets, ir_version=10
    ).SerializeToString()
    return content


def test_the_rest_of_the_model_stays() -> None:
    shorter = without_last_upsampling(model())
    assert shorter is not None
    assert shorter.scales == SCALES
    found = onnx.load_from_string(shorter.model)
    onnx.checker.check_model(found)
    assert [node.op_type for node in found.graph.node] == ["Add"]
    assert [value.name for value in found.graph.output] == ["coarse"]
    assert not found.graph.value_info
    tiles = np.random.default_rng(0).normal(size=(2, CLASSES, *COARSE)).astype(np.float32)
    coarse = onnxruntime_cpu.open_network(shorter.model, threads=1).run(None, {"x": tiles})[0]
    whole = onnxruntime_cpu.open_network(model(), threads=1).run(None, {"x": tiles})[0]
    np.testing.assert_array_equal(enlarged(coarse, shorter.scales, threads=2), whole)


def other_domain(graph: Any) -> None:
    graph.node[1].domain = "another"


def upsampling_first(graph: Any) -> None:
    graph.node[1].output[0] = "large"
    graph.node.append(onnx_ml.make_node("Relu", ["large"], ["y"]))


def two_outputs(graph: Any) -> None:
    graph.output.append(graph.value_info[0])


def two_inputs(graph: Any) -> None:
    graph.node[1].input.append("x")


def another_output(graph: Any) -> None:
    graph.output[0].name = "z"


def unknown_shape(graph: Any) -> None:
    del graph.value_info[:]


def no_scales(graph: Any) -> None:
    del graph.node[1].attribute[:]


def no_nodes(graph: Any) -> None:
    del graph.node[:]


@pytest.mark.parametrize(
    "change",
    [
        other_domain,
        upsampling_first,
        two_outputs,
        two_inputs,
        another_output,
        unknown_shape,
        no_scales,
        no_nodes,
    ],
)
def test_models_that_end_otherwise_stay_whole(change: Callable[[Any], None]) -> None:
    assert without_last_upsampling(model(change)) is None


@pytest.mark.parametrize(
    "scales", [(2, 2), (2, 2.5, 2), (0, 1, 1), (-1, 1, 1), (2e6, 1, 1), (float("nan"), 1, 1)]
)
def test_scales_that_are_not_whole(scales: tuple[float, ...]) -> None:
    assert without_last_upsampling(model(scales=scales)) is None


def test_damaged_models_stay_as_they_are() -> None:
    whole = model()
    for end in range(len(whole)):
        found = without_last_upsampling(whole[:end])
        assert found is None or len(found.model) <= end


@settings(max_examples=200)
@given(st.data())
def test_no_damage_reaches_beyond_the_model(data: st.DataObject) -> None:
    content = bytearray(model())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = without_last_upsampling(bytes(content))
    assert found is None or len(found.model) <= len(content)


def stream_of(
    image: np.ndarray, network: TileNetwork, output: Output, target: Triple, order: int = 1
) -> LabelStream:
    depth, height, width = image.shape[1:]
    spacing = tuple(new / old for old, new in zip(target, (depth, height, width), strict=True))
    grid = LogitsGrid(target, spacing, (1.0, 1.0, 1.0), Resampling(order))  # type: ignore[arg-type]
    tiling = Tiling(TILE, mirror_axes=(0, 1, 2))
    return LabelStream(image, tiling, output, grid, network, budget=MemoryBudget(PLENTY), threads=2)


def ignore(done: int, count: int) -> None:
    """Progress that nobody asked for."""


def labels(*task: Any, order: int = 1) -> np.ndarray:
    return stream_of(*task, order=order).labels(ignore)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(2, 14), st.integers(2, 9), st.integers(8, 33)),
    resampled=st.booleans(),
    regions=st.booleans(),
    one_tile=st.booleans(),
    order=st.sampled_from([1, 1, 3]),
    seed=st.integers(0, 1 << 30),
)
def test_labels_are_those_of_enlarged_logits(
    shape: Triple, resampled: bool, regions: bool, one_tile: bool, order: int, seed: int
) -> None:
    """Compare one tile and several, on their own grid and another, for labels and for regions."""
    random = np.random.default_rng(seed)
    if one_tile:
        shape = tuple(min(n, t) for n, t in zip(shape, TILE, strict=True))  # type: ignore[assignment]
    image = random.normal(size=(1, *shape)).astype(np.float32)
    mix = random.normal(size=(CLASSES, 1, 1, 1)).astype(np.float32)
    place = random.normal(size=(CLASSES, *COARSE)).astype(np.float32)

    def coarse(tiles: np.ndarray) -> np.ndarray:
        pooled = tiles[:, :, ::2, :, 1::3]
        logits: np.ndarray = (mix * pooled + place).astype(np.float32)
        return logits

    named = tuple(Label(value, str(value)) for value in range(CLASSES + regions))
    painted = tuple(Region(str(i), (i + 1,), i + 1) for i in range(CLASSES)) if regions else ()
    output = Output(named, painted)
    depth, height, width = shape
    target = (depth + 3, height, max(2, width - 5)) if resampled else shape
    found = labels(image, TileNetwork(coarse, logits_grid=COARSE), output, target, order=order)
    whole = TileNetwork(lambda tiles: upsampled(coarse(tiles)))
    np.testing.assert_array_equal(found, labels(image, whole, output, target, order=order))


@pytest.mark.parametrize("shape", [TILE, (12, 8, 30)], ids=["one tile", "several"])
@pytest.mark.parametrize("resampled", [False, True])
def test_probabilities_are_those_of_enlarged_logits(shape: Triple, resampled: bool) -> None:
    random = np.random.default_rng(3)
    image = random.normal(size=(1, *shape)).astype(np.float32)
    place = random.normal(size=(CLASSES, *COARSE)).astype(np.float32)

    def coarse(tiles: np.ndarray) -> np.ndarray:
        logits: np.ndarray = tiles[:, :, ::2, :, 1::3] + place
        return logits

    output = Output(tuple(Label(value, str(value)) for value in range(CLASSES)))
    target = (shape[0] + 4, shape[1] + 1, shape[2] + 7) if resampled else shape
    networks = (
        TileNetwork(coarse, logits_grid=COARSE),
        TileNetwork(lambda tiles: upsampled(coarse(tiles))),
    )
    found, whole = (
        stream_of(image, network, output, target).probabilities([0, 2], ignore)
        for network in networks
    )
    np.testing.assert_array_equal(found, whole)
    assert 0 < found.min() < 0.2 < found.max() < 1


def test_mirrored_logits_are_averaged_before_they_are_enlarged() -> None:
    """Allow roundings: the logits were averaged before and not after."""
    random = np.random.default_rng(5)
    image = random.normal(size=(1, 12, 8, 30)).astype(np.float32)
    place = random.normal(size=(CLASSES, *COARSE)).astype(np.float32)

    def coarse(tiles: np.ndarray) -> np.ndarray:
        logits: np.ndarray = tiles[:, :, ::2, :, 1::3] + place
        return logits

    output = Output(tuple(Label(value, str(value)) for value in range(CLASSES)))
    axes, shape = (0, 1, 2), (12, 8, 30)
    found = labels(image, TileNetwork(coarse, 1, False, axes, COARSE), output, shape)
    whole = TileNetwork(lambda tiles: upsampled(coarse(tiles)), mirrored_axes=axes)
    assert (found != labels(image, whole, output, shape)).mean() < 1e-3
    assert len(np.unique(found)) == CLASSES


@pytest.mark.parametrize("extent", [(6, 4, 15), (12, 8, 30)], ids=["one tile", "several"])
@pytest.mark.parametrize("resampled", [False, True])
def test_coarse_logits_that_are_no_numbers(extent: Triple, resampled: bool) -> None:
    calls = itertools.count()

    def fails(tiles: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(tiles), CLASSES, *COARSE), np.float32)
        if next(calls) == (0 if extent == TILE else 3):
            logits[0, 1, 1, 1, 1] = np.nan
        return logits

    image = np.arange(np.prod(extent), dtype=np.float32).reshape(1, *extent)
    output = Output(tuple(Label(value, str(value)) for value in range(CLASSES)))
    target = (extent[0] + 4, extent[1] + 1, extent[2] + 7) if resampled else extent
    with pytest.raises(BackendError, match="NaN or infinite"):
        labels(image, TileNetwork(fails, logits_grid=COARSE), output, target)


def test_grids_that_do_not_divide_the_tile() -> None:
    network = TileNetwork(lambda tiles: tiles, logits_grid=(4, 4, 5))
    output = Output(tuple(Label(value, str(value)) for value in range(CLASSES)))
    with pytest.raises(ValueError, match="do not divide"):
        labels(np.ones((1, 6, 4, 15), np.float32), network, output, (6, 4, 15))


def test_packages_are_segmented_as_with_whole_logits(
    tiny_package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package.open(tiny_package_path)
    session = onnxruntime_cpu.OnnxRuntimeSession(package, "fp32", BackendOptions())
    tile = package.manifest.tiling.tile
    assert session.coarse is not None
    assert session.coarse.grid == tuple(extent // 2 for extent in tile)
    volume = Volume(head_like((45, 36, 50))[None], np.diag([1.1, 0.9, 1, 1]))
    found = Predictor(package, "onnxruntime").predict(volume).labels
    monkeypatch.setattr(onnxruntime_cpu.OnnxRuntimeSession, "coarse", None)
    whole = Predictor(package, "onnxruntime").predict(volume).labels
    np.testing.assert_array_equal(found, whole)
    assert len(np.unique(found)) > 1
