from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.graphs.graphs import logits_of
from support.graphs.untraced import untraced
from support.networks.published import CASES, SEGMAFORMER_CASES, published_case

torch = pytest.importorskip("torch")

from segmaformer.export import onnx_export
from segmaformer.export.float16 import to_float16
from segmaformer.export.plain_graph import plain_graph
from segmaformer.export.rewrites import apply_rewrites, rewrite_for_cpu, rewrite_norms
from segmaformer.export.scan_op import scan_nodes
from segmaformer.export.token_ops import inline_token_functions
from segmaformer.models import create_model

WITH_BODY = (SEGMAFORMER_CASES[0], "taming_bisegmamba")
"""The body runs token by token: these vouch for it, the last in both directions."""

TINY_SEGMAMBA: dict[str, Any] = {
    "in_chans": 1,
    "depths": [1, 1, 1, 1],
    "feat_size": [4, 6, 8, 10],
    "hidden_size": 12,
    "d_state": 3,
}
TINY_TAMING: dict[str, Any] = {
    "features_per_stage": [4, 6],
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage_encoder": [1, 1],
    "n_conv_per_stage_decoder": [1],
}
TINY_SEGRESMAMBA: dict[str, Any] = {"in_chans": 1, "feat_size": [8] * 4, "d_state": 3}


def export_onnx(
    model: torch.nn.Module, tile: tuple[int, int, int], channels: int
) -> onnx.ModelProto:
    with untraced():
        return onnx_export.export_onnx(model, tile, channels)


def for_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Export a network in the form that packages have."""
    return rewrite_for_cpu(apply_rewrites(model)[0])[0]


@pytest.mark.parametrize("name", CASES)
def test_published_outputs(golden_dir: Path, name: str) -> None:
    case = published_case(golden_dir, name)
    model = case.load_into(create_model(case.arch, **case.config))
    depth, height, width = case.tiles.shape[2:]
    exported = for_cpu(export_onnx(model, (depth, height, width), case.tiles.shape[1]))
    for op_library in (True, False) if name in WITH_BODY else (True,):
        assert case.error(logits_of(exported, case.tiles, op_library=op_library)) <= 4


def exported_tiny(name: str, config: dict[str, Any], tile: tuple[int, int, int]) -> onnx.ModelProto:
    torch.manual_seed(0)
    model, _ = apply_rewrites(export_onnx(create_model(name, **config), tile, 1))
    return model


def kinds(model: onnx.ModelProto) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in model.graph.node)


def transposes(model: onnx.ModelProto, *, axes: int) -> int:
    """Count the Transpose nodes on tensors of `axes` axes: three for tokens to channels."""
    return sum(
        len(node.attribute[0].ints) == axes
        for node in model.graph.node
        if node.op_type == "Transpose"
    )


def directions(model: onnx.ModelProto) -> list[int]:
    return [a.i for node in scan_nodes(model) for a in node.attribute if a.name == "reverse"]


@pytest.fixture(scope="module")
def segmamba() -> onnx.ModelProto:
    return exported_tiny("segmamba", TINY_SEGMAMBA, (32, 32, 32))


@pytest.fixture(scope="module")
def bisegmamba() -> onnx.ModelProto:
    return exported_tiny("taming-bisegmamba", TINY_TAMING, (4, 4, 4))


def test_directions_are_an_attribute_of_the_scan(
    segmamba: onnx.ModelProto, bisegmamba: onnx.ModelProto
) -> None:
    assert sorted(directions(segmamba)) == [0] * 8 + [1] * 4
    assert sorted(directions(bisegmamba)) == [0, 0, 1, 1]
    for model in (segmamba, bisegmamba):
        assert not kinds(model)["ReverseSequence"]
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Slice" and len(node.input) > 4:
                assert (constants[node.input[4]] > 0).all()


def test_slices_cost_one_transpose_each_way(segmamba: onnx.ModelProto) -> None:
    # Sequence and gate across slices, the result back.
    assert transposes(segmamba, axes=4) == 4 * 3


def test_three_orders_share_their_projections(segmamba: onnx.ModelProto) -> None:
    # Sequence, gate and output once; each order has one for B, C and the step, and the step's.
    assert kinds(segmamba)["MatMul"] == 4 * (3 + 3 * 2)


def test_four_orders_of_axes_cost_one_transpose_each_way() -> None:
    model = exported_tiny("taming-multisegmamba", TINY_TAMING, (4, 4, 4))
    assert transposes(model, axes=5) == 2 * 2 * 4


def test_the_convolution_before_the_scan_makes_one_copy(bisegmamba: onnx.ModelProto) -> None:
    """Check that there are no shifted copies, and that weights need no cutting or transposing."""
    assert not kinds(bisegmamba).keys() & {"Pad", "Slice"}
    weights = {tensor.name for tensor in bisegmamba.graph.initializer}
    for node in bisegmamba.graph.node:
        assert not (node.op_type == "Transpose" and node.input[0] in weights)


def test_no_variant_sums_a_volume_in_one_run(
    segmamba: onnx.ModelProto, bisegmamba: onnx.ModelProto
) -> None:
    for model in (segmamba, bisegmamba):
        accurate = rewrite_norms(model)[0]
        for variant in (rewrite_for_cpu(model)[0], accurate, to_float16(accurate)[0]):
            assert not kinds(variant).keys() & {"InstanceNormalization", "ReduceMean"}
            norms = sum(kinds(variant)[op] for op in ("InstanceNorm", "InstanceNormAdd"))
            assert norms
            plain = plain_graph(variant)
            assert "InstanceNormalization" not in kinds(plain)
            assert kinds(plain)["ReduceMean"] == 6 * norms


def test_a_flat_background_costs_no_digits() -> None:
    torch.manual_seed(0)
    model = create_model("taming-segmamba", **TINY_TAMING).eval()
    exported = apply_rewrites(export_onnx(model, (24, 64, 64), 1))[0]
    tile = np.full((1, 1, 24, 64, 64), -0.4, np.float32)
    body = np.random.default_rng(0).standard_normal((16, 40, 40), dtype=np.float32)
    tile[0, 0, 4:20, 12:52, 14:54] = 1 + body
    with torch.inference_mode():
        rounded = model(torch.from_numpy(tile)).numpy()
        exact = model.double()(torch.from_numpy(tile).double()).numpy()
    bound = max(2e-5 * np.ptp(exact), 2 * np.abs(rounded - exact).max())
    for variant in (rewrite_for_cpu(exported)[0], plain_norms(exported)):
        assert np.abs(logits_of(variant, tile, op_library=True) - exact).max() <= bound


def plain_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Norms in standard operators, as other runtimes get them; the scan stays an op."""
    return inline_token_functions(rewrite_norms(model)[0])


@pytest.mark.parametrize(
    ("name", "config", "tile", "scans"),
    [
        ("segmamba", {**TINY_SEGMAMBA, "nslices": None, "mamba_residual": False}, (16, 16, 32), 1),
        ("segresmamba", {**TINY_SEGRESMAMBA, "use_tom": True}, (64, 64, 64), 1),
        ("segresmamba", TINY_SEGRESMAMBA, (48, 48, 16), 0),
    ],
)
def test_other_forms_are_as_exact_as_pytorch_without_dead_parts(
    name: str, config: dict[str, Any], tile: tuple[int, int, int], scans: bool
) -> None:
    torch.manual_seed(0)
    model = create_model(name, **config).eval()
    exported = for_cpu(export_onnx(model, tile, 1))
    assert bool(scan_nodes(exported)) == scans
    used = {name for node in exported.graph.node for name in node.input}
    assert {tensor.name for tensor in exported.graph.initializer} <= used
    tiles = np.random.default_rng(0).standard_normal((2, 1, *tile), dtype=np.float32)
    with torch.inference_mode():
        rounded = model(torch.from_numpy(tiles)).numpy()
        exact = model.double()(torch.from_numpy(tiles).double()).numpy()
    noise = np.abs(rounded - exact).max()
    for op_library in (True, False):
        logits = logits_of(exported, tiles, op_library=op_library)
        assert np.abs(logits - exact).max() <= 4 * noise
