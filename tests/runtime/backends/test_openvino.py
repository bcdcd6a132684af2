from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
openvino = pytest.importorskip("openvino", reason="needs the extra openvino")

from support.graphs.scan_models import (
    FLOAT16,
    FLOAT32,
    OPTIONAL,
    SUBSETS,
    make_inputs,
    make_model,
    run_directly,
)
from support.graphs.token_op_cases import Case, assert_close, run, volume_norm_case
from support.graphs.token_op_models import CASES
from support.graphs.token_op_models import make_model as make_op_model
from support.packages.samples import copy_package, edit_manifest

from segmaformer.runtime.backends import (
    BackendOptions,
    find_backend,
    open_session,
    run_checked,
    self_test,
)
from segmaformer.runtime.backends import openvino as backend
from segmaformer.runtime.backends.openvino_ops import op_extensions
from segmaformer.runtime.errors import BackendError, MissingExtraError, PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files


def compile_model(model: Any, errors: list[Exception] | None = None) -> Any:
    core = openvino.Core()
    core.add_extension(op_extensions(2, [] if errors is None else errors))
    network = core.read_model(model.SerializeToString(), b"")
    return core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize("element_type", [FLOAT32, FLOAT16])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("optional", SUBSETS, ids="-".join)
def test_the_op_is_the_kernel(element_type: int, reverse: bool, optional: tuple[str, ...]) -> None:
    inputs = make_inputs(element_type, optional)
    flags = {"delta_softplus": True, "reverse": reverse}
    compiled = compile_model(make_model(inputs, element_type, **flags))
    found = compiled(list(inputs.values()))[0]
    np.testing.assert_array_equal(found, run_directly(inputs, element_type, **flags))


def test_nodes_that_differ_in_flags_alone_stay_two() -> None:
    """OpenVINO merges nodes of equal type, inputs and attributes."""
    inputs = make_inputs(FLOAT32, OPTIONAL)
    model = make_model(inputs, delta_softplus=1)
    backwards = model.graph.node.add()
    backwards.CopyFrom(model.graph.node[0])
    backwards.output[0] = "backwards"
    backwards.attribute.add(name="reverse", i=1, type=2)
    output = model.graph.output.add()
    output.CopyFrom(model.graph.output[0])
    output.name = "backwards"
    found = compile_model(model)(list(inputs.values()))
    for index, reverse in enumerate((False, True)):
        expected = run_directly(inputs, FLOAT32, delta_softplus=True, reverse=reverse)
        np.testing.assert_array_equal(found[index], expected)


ITS_OWN = (
    *("Conv3d", "ConcatConv3d", "ConvTranspose3d", "NormLinear", "LinearAdd"),
    *("InstanceNorm", "InstanceNormAdd"),
)
"""Ops that OpenVINO computes by itself, and the norms, which the token-major kernel computes."""


@pytest.mark.parametrize("batch", [None, "batch"], ids=["fixed batch", "free batch"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_the_other_ops_are_their_kernels(case: Case, batch: str | None) -> None:
    compiled = compile_model(make_op_model(case, batch=batch))
    found = compiled(list(case.inputs))[0]
    if case.op in ITS_OWN:
        assert_close(found, case)
    else:
        np.testing.assert_array_equal(found, run(case))


def test_a_norm_of_few_channels_is_the_channel_major_kernel() -> None:
    case = volume_norm_case(2, 3, 6, 7, 8, alpha=0.5)
    found = compile_model(make_op_model(case))(list(case.inputs))[0]
    np.testing.assert_array_equal(found, run(case))


def test_a_norm_between_convolutions_takes_no_transpose() -> None:
    """Convolutions keep channels innermost, as the norm wants them; or blocks, which are copied."""
    from onnx import TensorProto, helper, numpy_helper

    channels, shape = 16, [1, 16, 8, 8, 8]
    weight = np.full((channels, channels, 3, 3, 3), 0.01, np.float32)
    ones = np.ones(channels, np.float32)
    conv = {"pads": [1] * 6}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["before"], "conv", **conv),
        helper.make_node(
            "InstanceNorm", ["before", "g", "g"], ["n"], "norm", domain="segmaformer", alpha=0.5
        ),
        helper.make_node("Conv", ["n", "w"], ["y"], "other", **conv),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(ones, "g")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("segmaformer", 1)]
    compiled = compile_model(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    kinds = [
        node.get_rt_info()["layerType"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
    ]
    inner = kinds[kinds.index("Convolution") : len(kinds) - kinds[::-1].index("Convolution")]
    assert "Reference" in inner
    assert "Transpose" not in inner


def test_nodes_that_differ_in_scales_alone_stay_two() -> None:
    case = next(case for case in CASES if case.op == "Upsample")
    model = make_op_model(case)
    other = make_op_model(case, scales=[2.0, 2.0, 2.0])
    other.graph.node[0].output[0] = other.graph.output[0].name = "other"
    model.graph.node.append(other.graph.node[0])
    model.graph.output.append(other.graph.output[0])
    found = compile_model(model)(list(case.inputs))
    assert found[0].shape[2:] == (8, 6, 8)
    assert found[1].shape[2:] == (4, 6, 8)


def test_an_op_that_does_not_fit_says_so() -> None:
    case = next(case for case in CASES if case.op == "DepthwiseConv3d")
    errors: list[Exception] = []
    with contextlib.suppress(RuntimeError):  # which OpenVINO raises on several threads alone
        compile_model(make_op_model(case, group=2), errors)(list(case.inputs))
    assert "group must be the channels, 23; found 2" in str(errors[0])


@pytest.mark.parametrize(("variant", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_it_computes_what_onnx_runtime_computes(
    package: Package, tile: np.ndarray, variant: str, tolerance: float
) -> None:
    tiles = np.concatenate([tile, -tile])
    session = backend.OpenVinoSession(package, variant, BackendOptions(threads=2))
    found = session.run(tiles)
    expected = open_session(package, backend="onnxruntime", variant="fp32").run(tiles)
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    assert np.abs(found - expected).max() < tolerance * np.ptp(expected)
    again = session.run(tiles[1:])
    assert np.shares_memory(found, again) is False
    np.testing.assert_array_equal(found[1:], again)


def test_the_reference_model_computes_what_pytorch_computes(
    hippocampus_checkpoint: Any, hippocampus_package_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    package = Package.open(hippocampus_package_path)
    extent = package.manifest.tiling.tile
    tile = np.random.default_rng(3).normal(size=(1, 1, *extent)).astype(np.float32)
    found = backend.OpenVinoSession(package, "fp32", BackendOptions(threads=2)).run(tile)
    with torch.no_grad():
        expected = hippocampus_checkpoint.model(torch.from_numpy(tile)).numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)


def test_the_description_says_what_runs(package: Package) -> None:
    version = openvino.__version__.split("-")[0]
    session = open_session(package, backend="openvino", options=BackendOptions(threads=1))
    assert session.description == f"OpenVINO {version}, CPU, fp32, 1 thread"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_precision_reach_openvino(package: Package, threads: int) -> None:
    if threads > 1 and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("OpenVINO counts processors once, and this worker had one then")
    session = backend.OpenVinoSession(package, "fp32", BackendOptions(threads=threads))
    compiled = session._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_the_scan_gets_the_threads_that_were_asked_for(
    package: Package, tile: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(
        "segmaformer.runtime.backends.openvino_ops.run_selective_scan",
        lambda args, threads: given.append(threads),
    )
    session = backend.OpenVinoSession(package, "fp32", BackendOptions(threads=3))
    session._request.infer([tile])
    assert set(given) == {3}


def test_a_missing_openvino_names_the_extra(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'segmaformer\[openvino\]'"):
        open_session(package, backend="openvino")
    found = find_backend("openvino", None)
    assert found is not None
    assert "segmaformer[openvino]" in (found.missing() or "")


def test_wrong_numbers_are_refused(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "no test passed yet"))
    run = backend.OpenVinoSession.run
    monkeypatch.setattr(backend.OpenVinoSession, "run", lambda self, tiles: -run(self, tiles))
    with pytest.raises(BackendError, match=r"self-test failed: .*; take --backend onnxruntime"):
        open_session(package, backend="openvino")


def can_bfloat16() -> bool:
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.skipif(not can_bfloat16(), reason="this processor does not compute in bfloat16")
def test_bfloat16_by_request(
    package: Package, tile: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bits of digits: within the gate's sight, and not float32."""
    monkeypatch.setattr(self_test, "shortcoming", lambda *_, **__: None)
    rounded = open_session(package, backend="openvino-bf16")
    assert "fp32 in bfloat16" in rounded.description
    exact = open_session(package, backend="onnxruntime").run(tile)
    error = np.abs(rounded.run(tile) - exact).max() / np.ptp(exact)
    assert 1e-5 < error < 0.05


@pytest.mark.skipif(not can_bfloat16(), reason="this processor does not compute in bfloat16")
def test_bfloat16_is_held_to_the_gate_of_float16(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def judge(*_: Any, exact: bool) -> str:
        asked.append(exact)
        return "labels differ"

    monkeypatch.setattr(self_test, "shortcoming", judge)
    with pytest.raises(BackendError, match=r"bfloat16.*: labels differ; take --backend"):
        open_session(package, backend="openvino-bf16")
    assert asked == [False]


def test_bfloat16_is_refused_where_the_processor_has_none(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = SimpleNamespace(get_property=lambda device, name: ["FP32", "INT8"])
    module = SimpleNamespace(Core=lambda: core)
    monkeypatch.setattr(backend, "import_openvino", lambda: module)
    with pytest.raises(BackendError, match="does not compute in bfloat16; take --backend openvino"):
        open_session(package, backend="openvino-bf16")


def test_without_the_op_library_it_does_not_run(package: Package) -> None:
    with pytest.raises(BackendError, match="without the op library; take --backend onnxruntime"):
        open_session(package, backend="openvino", options=BackendOptions(use_op_library=False))


def test_a_missing_op_library_is_a_backend_error(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise BackendError("the compiled op library is not part of this installation")

    monkeypatch.setattr(backend, "op_library", missing)
    with pytest.raises(BackendError, match="op library is not part"):
        open_session(package, backend="openvino")


def test_a_network_that_is_no_onnx_is_refused(package: Package, tmp_path: Path) -> None:
    write_files(tmp_path, package.manifest, {"fp32.onnx": b"x" * 99, "fp16.onnx": b"x" * 99})
    with pytest.raises(PackageError, match=r"fp32\.onnx is no ONNX model"):
        open_session(Package.open(tmp_path), backend="openvino")


def test_a_manifest_that_does_not_fit_the_network_is_refused(
    package: Package, tmp_path: Path
) -> None:
    path = copy_package(package.path, tmp_path)
    more = '},\n      {\n        "value": 3,\n        "name": "more"\n      }'
    edit_manifest(path, '"name": "posterior"\n      }', f'"name": "posterior"\n      {more}')
    with pytest.raises(BackendError, match="the manifest says"):
        open_session(Package.open(path), backend="openvino")


def test_a_tile_of_another_shape_is_a_backend_error(package: Package, tile: np.ndarray) -> None:
    session = backend.OpenVinoSession(package, "fp32", BackendOptions())
    with pytest.raises(BackendError, match="takes tiles"):
        session.run(tile[..., 1:])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failing_scan_is_a_backend_error(
    package: Package, tile: np.ndarray, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    def fail(args: Any, threads: int) -> None:
        raise ValueError("selective scan: states is 0")

    monkeypatch.setattr("segmaformer.runtime.backends.openvino_ops.run_selective_scan", fail)
    session = backend.OpenVinoSession(package, "fp32", BackendOptions(threads=threads))
    with pytest.raises(BackendError, match=r"(?s)failed on a tile: .*states is 0"):
        session.run(tile)
    monkeypatch.undo()
    assert np.isfinite(session.run(tile)).all()


def test_nan_tiles_do_not_pass_as_labels(package: Package, tile: np.ndarray) -> None:
    session = backend.OpenVinoSession(package, "fp32", BackendOptions())
    with pytest.raises(BackendError, match="a tile holds NaN or infinity"):
        session.run(np.where(tile > 3, np.float32(np.nan), tile))


def test_nan_logits_do_not_pass_as_labels(
    package: Package, tile: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = backend.OpenVinoSession(package, "fp32", BackendOptions())
    monkeypatch.setattr(session, "_run", lambda tile, logits: logits.fill(np.nan))
    with pytest.raises(BackendError, match=r"logits from OpenVINO .* NaN or infinite"):
        run_checked(session, tile)
