from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support.graphs.graphs import run

torch = pytest.importorskip("torch")

from segmaformer.export.onnx_export import export_onnx
from segmaformer.export.rewrites import rewrite_for_cpu

TILE = (4, 4, 4)


class Network(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv3d(1, 3, 1), torch.nn.Conv3d(3, 2, 1)
        self.gelu = torch.nn.GELU(approximate)

    def forward(self, x: Any) -> Any:
        return self.second(self.gelu(self.first(x)))


@pytest.mark.parametrize(("approximate", "count"), [("none", 1), ("tanh", 0)])
def test_onnxruntime_computes_gelu_at_once(approximate: str, count: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = export_onnx(Network(approximate).eval(), TILE, 1)
    rewritten, counts = rewrite_for_cpu(plain)
    assert counts["gelu"] == count
    feed = {"tiles": np.random.default_rng(0).normal(size=(2, 1, *TILE)).astype(np.float32)}
    np.testing.assert_allclose(run(rewritten, feed), run(plain, feed), atol=1e-6)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        rewritten.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ops = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert ("Gelu" in ops, "Erf" in ops) == (count > 0, False)
