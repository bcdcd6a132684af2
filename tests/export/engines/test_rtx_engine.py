"""Builds of TensorRT-RTX engines on this machine, for GPUs that it may not have."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")

from segmaformer.export.engines import rtx_engine
from segmaformer.export.engines.rtx_engine import build_package_engine
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.reader import Package


@pytest.mark.parametrize(("variant", "target"), [("fp32", "sm86"), ("fp16", "sm120")])
def test_a_network_with_scans_becomes_an_engine(
    tiny_package_path: Path, variant: str, target: str
) -> None:
    logs: list[str] = []
    engine = build_package_engine(
        Package.open(tiny_package_path), variant, target, keep_log=logs.append
    )
    assert (engine.target, engine.batch) == (target, 1)
    assert len(engine.content) > 100_000
    assert "Engine generation completed" in logs[0]
    assert "ERROR" not in logs[0]


def test_a_network_that_cannot_be_made_plain_is_never_given_to_the_parser(
    tiny_package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("the network holds segmaformer::NewOp")

    monkeypatch.setattr(rtx_engine, "plain_graph", refuse)
    monkeypatch.setattr(rtx_engine, "build_rtx_engine", pytest.fail)
    with pytest.raises(BackendError, match=r"tiny\.sgmf, fp32: the network holds segmaformer"):
        build_package_engine(Package.open(tiny_package_path), "fp32", "sm86")
