"""Op of ONNX Runtime's CUDA provider, with the device replaced by the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from support.native.native_builds import NATIVE, SCAN_ON_HOST, compile_library, exported_symbols

pytest.importorskip("onnx")
from support.graphs.scan_models import (
    FLOAT32,
    NAMES,
    ONNX_TYPES,
    OPTIONAL,
    SUBSETS,
    make_inputs,
    make_model,
    run_directly,
    run_session,
)

from segmaformer.runtime.bindings.cuda_library import cuda_library_path
from segmaformer.runtime.errors import BackendError

SOURCES = [
    NATIVE / "onnxruntime/ops/custom_ops_cuda.cc",
    NATIVE / "onnxruntime/ops/scan_op.cc",
    NATIVE / "onnxruntime/ops/op_domain.cc",
    NATIVE / "kernels/scan/scan_inputs.cc",
    SCAN_ON_HOST,
]


@pytest.fixture(scope="module")
def for_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Register the op of the CUDA provider for the CPU provider."""
    output = tmp_path_factory.mktemp("op") / "libop.so"
    return compile_library(output, SOURCES, '-DSGMF_PROVIDER="CPUExecutionProvider"')


@pytest.fixture(scope="module")
def for_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("op") / "libop.so", SOURCES)


def open_session(library: Path, model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
@pytest.mark.parametrize("element_type", ONNX_TYPES)
def test_equals_the_c_function(
    for_the_cpu: Path, element_type: int, optional: tuple[str, ...]
) -> None:
    inputs = make_inputs(element_type, optional)
    for reverse in (0, 1):
        model = make_model(inputs, element_type, delta_softplus=1, reverse=reverse)
        session = open_session(for_the_cpu, model)
        expected = run_directly(inputs, element_type, delta_softplus=True, reverse=bool(reverse))
        for _ in range(2):  # the second run gets the first one's scratch memory
            found = run_session(session, inputs, element_type)
            np.testing.assert_array_equal(found, expected)


def test_shapes_that_do_not_fit(for_the_cpu: Path) -> None:
    inputs = make_inputs(FLOAT32, OPTIONAL)
    inputs["B"] = np.zeros((2, 39, 6), np.float32)
    session = open_session(for_the_cpu, make_model(inputs, shapes=dict.fromkeys(NAMES)))
    with pytest.raises(Exception, match=r"B has shape \(2, 39, 6\); u and A ask for"):
        session.run(None, inputs)


def test_without_work_there_is_no_scratch_memory(for_the_cpu: Path) -> None:
    inputs = make_inputs(FLOAT32, ())
    empty = {name: a[:0] if a.ndim == 3 else a for name, a in inputs.items()}
    session = open_session(for_the_cpu, make_model(inputs, shapes=dict.fromkeys(NAMES)))
    assert session.run(None, empty)[0].shape == (0, 40, 21)


def test_the_function_body_is_no_substitute_for_the_provider(for_cuda: Path) -> None:
    """Asked for the GPU's op, a session without a GPU fails instead of running the body."""
    pytest.importorskip("torch")
    from segmaformer.export.function_body import add_function_body

    inputs = make_inputs(FLOAT32, OPTIONAL)
    model = make_model(inputs, delta_softplus=1)
    add_function_body(model)
    with pytest.raises(Exception, match="Could not find an implementation for SelectiveScan"):
        open_session(for_cuda, model)


def test_the_installed_library() -> None:
    try:
        library = cuda_library_path()
    except BackendError as error:
        pytest.skip(str(error))
    functions = {name for name in exported_symbols(library) if not name.startswith("_Z")}
    assert "RegisterCustomOps" in functions
    assert all(name.startswith("sgmf_") for name in functions - {"RegisterCustomOps"})
    model = make_model(make_inputs(FLOAT32, OPTIONAL))
    with pytest.raises(Exception, match="Could not find an implementation for SelectiveScan"):
        open_session(library, model)  # on the CPU provider
