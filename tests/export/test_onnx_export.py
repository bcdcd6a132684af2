from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.graphs.graphs import logits_of
from support.networks.networks import TINY_TILE

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import Checkpoint
from segmaformer.export.onnx_export import export_onnx
from segmaformer.export.scan_op import scan_nodes


def test_graph_is_portable(tiny_onnx: onnx.ModelProto) -> None:
    assert {entry.domain: entry.version for entry in tiny_onnx.opset_import} == {
        "": 18,
        "segmaformer": 1,
    }
    assert tiny_onnx.ir_version <= 10
    assert len(scan_nodes(tiny_onnx)) == 3
    assert [function.name for function in tiny_onnx.functions] == ["SelectiveScan"]


def test_only_the_filtered_sequence_is_transposed_for_the_scan(tiny_onnx: onnx.ModelProto) -> None:
    # The causal filter is a convolution, which wants channels first.
    producers = {name: node for node in tiny_onnx.graph.node for name in node.output}
    for scan in scan_nodes(tiny_onnx):
        kinds = {name: producers[name].op_type for name in scan.input if name in producers}
        assert [name for name, kind in kinds.items() if kind == "Transpose"] == [scan.input[0]]
        readers = [node for node in tiny_onnx.graph.node if scan.output[0] in node.input]
        assert [node.op_type for node in readers] == ["MatMul"]


def test_gate_bias_and_softplus_are_inside_the_scan(tiny_onnx: onnx.ModelProto) -> None:
    assert not {"Softplus", "Log"} & {node.op_type for node in tiny_onnx.graph.node}
    for scan in scan_nodes(tiny_onnx):
        assert all(scan.input)
        assert len(scan.input) == 8
        assert {a.name: a.i for a in scan.attribute} == {"delta_softplus": 1, "reverse": 0}


def test_file_names_nothing_of_the_machine(tiny_onnx: onnx.ModelProto) -> None:
    assert b"/" + b"site-packages" not in tiny_onnx.SerializeToString()
    assert str(Path.home()).encode() not in tiny_onnx.SerializeToString()
    assert b".py" not in tiny_onnx.SerializeToString()


@pytest.mark.parametrize("op_library", [True, False], ids=["kernel", "function body"])
@pytest.mark.parametrize("batch", [1, 3])
def test_matches_pytorch(
    tiny_checkpoint: Checkpoint, tiny_onnx: onnx.ModelProto, op_library: bool, batch: int
) -> None:
    tiles = np.random.default_rng(1).standard_normal((batch, 1, *TINY_TILE), dtype=np.float32)
    with torch.no_grad():
        expected = tiny_checkpoint.model(torch.from_numpy(tiles)).numpy()
    logits = logits_of(tiny_onnx, tiles, op_library=op_library)
    # Rounding of differently ordered float32 sums.
    assert np.abs(logits - expected).max() <= 1e-5 * np.ptp(expected)


class Windows(torch.nn.Module):  # type: ignore[misc]
    """Windows put together as window attention does: the batch is a quotient of their number."""

    def forward(self, x: Any) -> Any:
        windows = x.reshape(-1, 2, 4, 4)
        tiles = int(windows.shape[0] / (4 / 2))
        return windows.view(tiles, 4, 4, -1).transpose(1, 3).reshape(x.shape)


def test_a_batch_that_the_code_computes_from_floats_is_not_taken_for_free() -> None:
    lines: list[str] = []
    model = export_onnx(Windows(), (4, 4, 4), 1, report=lines.append)
    tile = np.arange(64, dtype=np.float32).reshape(1, 1, 4, 4, 4)
    np.testing.assert_array_equal(
        logits_of(model, tile, op_library=True), Windows()(torch.from_numpy(tile))
    )
    assert lines == [
        "one tile at a time: a free batch size cannot be traced (what the code computes from the "
        "batch holds for one batch alone)"
    ]
