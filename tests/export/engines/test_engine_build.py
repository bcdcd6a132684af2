from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")

from support.graphs.scan_models import FLOAT32, OPTIONAL, make_inputs, make_model
from support.stand_ins.gpu_machine import GpuMachine, brightness_package, pretend

from segmaformer.export.engines.engine_build import BuiltEngine, EngineRequest, build_tensorrt
from segmaformer.export.function_body import add_function_body
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, EngineError
from segmaformer.runtime.package.reader import Package


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpuMachine:
    return pretend(monkeypatch, tmp_path)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return brightness_package(tmp_path)


def build(package: Package, logs: list[str], **options: Any) -> BuiltEngine:
    return build_tensorrt(
        EngineRequest(package, "fp16", **options),
        progress=lambda done, count: None,
        keep_log=logs.append,
    )


def test_the_engine_has_the_key_of_this_machine(machine: GpuMachine, package: Package) -> None:
    logs: list[str] = []
    built = build(package, logs, batch=3)
    assert built.content == b"engine for 3"
    assert built.key.batch == (1, 3, 3)
    assert (built.key.builder, built.key.builder_version) == ("tensorrt", "10.3.0")
    assert (built.key.device, built.key.compute_capability) == ("Fake GPU", "8.7")
    assert (built.key.cuda, built.key.plugin_sha256) == ("12.6", None)
    assert logs == ["INFO: building\n"]


def test_the_second_build_knows_the_timings_of_the_first(
    machine: GpuMachine, package: Package
) -> None:
    for expected in (b"", b"+", b"++"):
        build(package, [])
        assert machine.trt.seen["timing_cache"] == expected
    machine.driver.name = "Another GPU"
    build(package, [])
    assert machine.trt.seen["timing_cache"] == b""


def test_altered_timings_never_reach_the_builder(machine: GpuMachine, package: Package) -> None:
    build(package, [])
    (timings,) = EngineCache().path.glob("*.timing")
    timings.write_bytes(b"evil")
    machine.trt.seen.clear()
    with pytest.raises(EngineError, match=r"\.timing has more than 1 bytes; expected 1"):
        build(package, [])
    assert machine.trt.seen == {}


def test_the_parser_sees_the_plugin_and_no_body(
    machine: GpuMachine, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(make_inputs(FLOAT32, OPTIONAL), delta_softplus=1)
    add_function_body(model)
    monkeypatch.setattr(Package, "read", lambda self, name: model.SerializeToString())
    build(package, [])
    parsed = onnx.load_from_string(machine.trt.seen["network"])
    assert not parsed.functions
    assert "plugin_namespace" in {a.name for a in parsed.graph.node[0].attribute}
    assert machine.trt.loaded == [str(machine.plugin)]


def test_the_log_of_a_failed_build_is_kept(machine: GpuMachine, package: Package) -> None:
    machine.trt.builds = False
    logs: list[str] = []
    with pytest.raises(BackendError, match="built no engine"):
        build(package, logs)
    assert "ERROR: no implementation for node 3" in logs[0]


def test_another_machines_engine_is_refused(machine: GpuMachine, package: Package) -> None:
    with pytest.raises(BackendError, match="for the device it runs on, not for sm86"):
        build(package, [], target="sm86")


def test_no_tiles_are_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="batch is 0; expected at least 1"):
        EngineRequest(package, "fp32", batch=0)
