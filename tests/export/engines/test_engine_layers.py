from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("polygraphy", reason="needs the extra tensorrt or rtx")

from support.stand_ins.gpu_machine import GpuMachine, pretend
from support.stand_ins.marked_engine_fakes import (
    FakeMarkingTensorRt,
    forget_polygraphy,
    pretend_polygraphy,
)

from segmaformer.calibration.verification.layer_comparison import (
    TOLERANCE,
    LayerError,
    compare_layers,
    value_types,
    variant_model,
)
from segmaformer.export.engines.engine_layers import (
    EngineValues,
    import_runner,
    marked_network,
    tensorrt_rtx_values,
    tensorrt_values,
)
from segmaformer.export.plain_graph import plain_graph
from segmaformer.export.scan_op import scan_nodes
from segmaformer.runtime.backends.tensorrt import library as tensorrt_library
from segmaformer.runtime.backends.tensorrt.rtx_build import build_rtx_engine
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, MissingExtraError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.tiles import phantom_tiles


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpuMachine:
    machine = pretend(monkeypatch, tmp_path, FakeMarkingTensorRt)
    pretend_polygraphy(monkeypatch, machine.driver)
    return machine


@pytest.fixture
def package(tiny_package_path: Path) -> Package:
    return Package.open(tiny_package_path)


def compare(package: Package, values: EngineValues, **options: Any) -> dict[str, LayerError]:
    """Compare on two tiles; return the layers by name."""
    manifest = package.manifest
    tiles = phantom_tiles(manifest.preprocessing.normalization, manifest.tiling.tile, count=2)
    return {each.tensor: each for each in compare_layers(package, values, tiles, **options)}


def worst(errors: dict[str, LayerError]) -> float:
    return max(each.relative_error for each in errors.values())


def test_every_layer_of_an_engine_is_compared_with_fp32(
    machine: GpuMachine, package: Package, capfd: pytest.CaptureFixture[str]
) -> None:
    values = tensorrt_values(package, "fp16")
    assert values.description.startswith("TensorRT 10.3.0, Fake GPU, fp16, engines built with")
    errors = compare(package, values)
    assert {each.operator for each in errors.values()} >= {"Conv", "SelectiveScan", "Softmax"}
    assert [*errors][-1] == "logits"
    assert 0 < worst(errors) < TOLERANCE
    assert machine.trt.loaded == [str(machine.plugin)]
    assert capfd.readouterr().out == ""


def test_fp32_of_an_engine_is_no_reference_for_itself(
    machine: GpuMachine, package: Package
) -> None:
    errors = compare(package, tensorrt_values(package, "fp32"))
    # The same kernels, here; another order of operations may round otherwise.
    assert worst(errors) < 1e-5


def test_the_layer_that_computes_something_else_is_named(
    machine: GpuMachine, package: Package
) -> None:
    values = tensorrt_values(package, "fp32")
    wrong = scan_nodes(variant_model(package, "fp32"))[0].output[0]
    assert isinstance(machine.trt, FakeMarkingTensorRt)
    machine.trt.alter = lambda name, value: value * 2 if name == wrong else value
    found = compare(package, values).values()
    assert [each.tensor for each in found if each.relative_error > TOLERANCE] == [wrong]


def test_groups_bound_what_an_engine_shows_at_once(
    machine: GpuMachine, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(EngineValues, "group_bytes", 2 << 20)
    values = tensorrt_values(package, "fp16")
    errors = compare(package, values, progress=lambda *step: steps.append(step))
    assert isinstance(machine.trt, FakeMarkingTensorRt)
    assert len(machine.trt.built) == len(steps) - 1 > 2
    assert steps[-1] == (len(machine.trt.built),) * 2
    fp32 = value_types(variant_model(package, "fp32")).keys()
    assert errors.keys() == values.names & fp32


def test_no_such_engine_is_kept_and_all_memory_is_given_back(
    machine: GpuMachine, package: Package
) -> None:
    values = tensorrt_values(package, "fp32")
    before = machine.driver.used_bytes()
    compare(package, values)
    assert not [*EngineCache().path.glob("*.engine*")]
    assert machine.driver.used_bytes() == before


def test_timings_serve_the_builds_to_come(machine: GpuMachine, package: Package) -> None:
    for expected in (b"", b"+"):
        compare(package, tensorrt_values(package, "fp32"))
        assert machine.trt.seen["timing_cache"] == expected


@pytest.mark.parametrize(
    ("broken", "message"),
    [("builds", "no implementation for node 3"), ("openable", "the magic tag does not match")],
)
def test_an_engine_that_cannot_be_had_is_an_error(
    machine: GpuMachine, package: Package, broken: str, message: str
) -> None:
    setattr(machine.trt, broken, False)
    with pytest.raises(BackendError, match=message):
        compare(package, tensorrt_values(package, "fp32"))


def test_an_engine_that_does_not_run_is_an_error(machine: GpuMachine, package: Package) -> None:
    machine.trt.accepts = False
    with pytest.raises(BackendError, match=r"Polygraphy cannot run the engine.*execute_async_v3"):
        compare(package, tensorrt_values(package, "fp32"))


def test_without_polygraphy_the_extra_is_named(
    machine: GpuMachine, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_polygraphy(monkeypatch)
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'segmaformer\[tensorrt\]'"):
        tensorrt_values(package, "fp32")


def test_one_process_looks_into_engines_of_one_kind(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_runner(machine.trt)  # type: ignore[arg-type]
    machine.trt.__name__ = "tensorrt_rtx"
    with pytest.raises(BackendError, match="one of TensorRT and TensorRT-RTX in a process"):
        import_runner(machine.trt)  # type: ignore[arg-type]


def test_tensorrt_rtx_builds_an_engine_that_shows_every_layer(package: Package) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    model = variant_model(package, "fp16")
    types = value_types(model)
    plain = plain_graph(model, batch=1)
    assert types.keys() <= {name for node in plain.graph.node for name in node.output}
    logs: list[str] = []
    engine = build_rtx_engine(
        marked_network(plain, [*types.values()]), "sm86", keep_log=logs.append
    )
    assert len(engine.content) > 100_000
    assert "ERROR" not in logs[0]


def test_layers_of_a_tensorrt_engine_on_a_gpu(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tensorrt_library.what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    forget_polygraphy(monkeypatch)
    errors = compare(package, tensorrt_values(package, "fp16"))
    assert worst(errors) < 5 * TOLERANCE


def test_layers_of_a_tensorrt_rtx_engine_on_a_gpu(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmaformer.runtime.backends.tensorrt.rtx import what_is_missing

    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    forget_polygraphy(monkeypatch)
    errors = compare(package, tensorrt_rtx_values(package, "fp16"))
    assert worst(errors) < 5 * TOLERANCE
