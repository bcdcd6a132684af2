"""ONNX Runtime's CUDA provider, which the CPU provider and a fake driver stand for.

Memory on the fake device is host memory that copies reach late, so the real ONNX Runtime on the
CPU computes on it: a missing wait gives wrong logits, as on a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.networks import TINY_TILE
from support.stand_ins.onnxruntime_fakes import (
    CPU,
    SCAN,
    Machine,
    assignment,
    pretend_cuda_provider,
)

from segmaformer.runtime.backends import BackendOptions, onnxruntime_cuda
from segmaformer.runtime.backends.onnxruntime_cpu import OnnxRuntimeSession
from segmaformer.runtime.backends.onnxruntime_cuda import (
    PROVIDER,
    SLOTS,
    OnnxRuntimeCudaSession,
    open_tested,
    what_is_missing,
)
from segmaformer.runtime.bindings.cuda_library import cuda_library_path
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.reader import Package


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return pretend_cuda_provider(monkeypatch)


def open_cuda(package: Package, variant: str = "fp32") -> OnnxRuntimeCudaSession:
    return OnnxRuntimeCudaSession(package, variant, BackendOptions(threads=1))


def random_tiles(count: int) -> np.ndarray:
    random = np.random.default_rng(count)
    return random.standard_normal((count, 1, *TINY_TILE)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_tile_gets_its_own_logits(machine: Machine, package: Package, count: int) -> None:
    session = open_cuda(package)
    expected = OnnxRuntimeSession(package, "fp32", BackendOptions(threads=1))
    assert session.tiles_at_once == SLOTS
    for _ in range(2):
        tiles = random_tiles(count)
        np.testing.assert_allclose(session.run(tiles), expected.run(tiles), rtol=0, atol=1e-5)


def test_float32_keeps_its_digits(machine: Machine, package: Package) -> None:
    open_cuda(package)
    assert machine.onnxruntime.options["use_tf32"] == "0"


@pytest.mark.parametrize(
    ("assigned", "ending"),
    [
        ([assignment(PROVIDER, SCAN)], "fp16"),
        (
            [
                assignment(PROVIDER, SCAN),
                assignment(CPU, "Shape"),
                assignment(CPU, "Gather", "Shape"),
            ],
            "fp16; on the CPU: 1 Gather, 2 Shape",
        ),
        (None, "fp16; this version does not tell what runs on the CPU"),
    ],
)
def test_description(machine: Machine, package: Package, assigned: Any, ending: str) -> None:
    machine.onnxruntime.assigned = assigned
    assert open_cuda(package, "fp16").description == f"ONNX Runtime 1.31.1, Fake GPU, {ending}"


@pytest.mark.parametrize(
    ("assigned", "message"),
    [
        ([assignment(PROVIDER, SCAN), assignment(CPU, "Resize", "Shape", "Resize")], "2 Resize of"),
        ([assignment(PROVIDER, "Conv"), assignment(CPU, SCAN)], f"did not give the {SCAN} nodes"),
        ([assignment(PROVIDER, "Conv", "Scan")], f"did not give the {SCAN} nodes"),
    ],
)
def test_nothing_runs_on_the_cpu_unasked(
    machine: Machine, package: Package, assigned: Any, message: str
) -> None:
    machine.onnxruntime.assigned = assigned
    with pytest.raises(BackendError, match=message):
        open_cuda(package)


def test_the_function_body_when_asked_for(machine: Machine, package: Package) -> None:
    machine.onnxruntime.assigned = [assignment(PROVIDER, "Conv", "Scan")]
    session = OnnxRuntimeCudaSession(package, "fp32", BackendOptions(use_op_library=False))
    machine.onnxruntime.assigned = [assignment(PROVIDER, "Conv", SCAN)]
    assert session.identity != open_cuda(package).identity


def test_a_provider_that_does_not_start(
    machine: Machine, package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.onnxruntime.started = (CPU,)
    machine.onnxruntime.loading = "Failed to load libcudnn.so.9"
    with pytest.raises(
        BackendError, match=r"not start here; Failed to load libcudnn\.so\.9; run: pip"
    ):
        open_cuda(package)
    assert capsys.readouterr().out == ""


def test_a_failing_run(machine: Machine, package: Package) -> None:
    session = open_cuda(package)
    machine.onnxruntime.failure = RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
    with pytest.raises(BackendError, match="Fake GPU, fp32 failed on a tile: CUDNN_STATUS"):
        session.run(random_tiles(3))
    machine.onnxruntime.failure = None
    tiles = random_tiles(1)
    expected = OnnxRuntimeSession(package, "fp32", BackendOptions(threads=1)).run(tiles)
    np.testing.assert_allclose(session.run(tiles), expected, rtol=0, atol=1e-5)


def test_too_little_memory(machine: Machine, package: Package) -> None:
    machine.driver.memory_bytes = 1000
    with pytest.raises(BackendError, match="Fake GPU has too little memory"):
        open_cuda(package)


def test_identity_changes_with_what_the_numbers_depend_on(
    machine: Machine, package: Package
) -> None:
    identities = [open_cuda(package).identity, open_cuda(package, "fp16").identity]
    machine.onnxruntime.__version__ = "1.32.0"
    identities.append(open_cuda(package).identity)
    machine.driver.name = "Other GPU"
    identities.append(open_cuda(package).identity)
    assert len(set(identities)) == 4
    assert open_cuda(package).identity == identities[-1]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


def test_a_network_is_tested_once_before_it_is_trusted(
    machine: Machine, package: Package, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    run = OnnxRuntimeCudaSession.run
    monkeypatch.setattr(
        OnnxRuntimeCudaSession,
        "run",
        lambda self, tiles: (runs.append(len(tiles)), run(self, tiles))[1],
    )
    for _ in range(2):
        open_tested(package, "fp32", BackendOptions(threads=1))
    assert runs == [1]


def test_wrong_numbers_are_refused(
    machine: Machine, package: Package, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxRuntimeCudaSession.run
    monkeypatch.setattr(OnnxRuntimeCudaSession, "run", lambda self, tiles: -run(self, tiles))
    for _ in range(2):
        with pytest.raises(BackendError, match="Fake GPU, fp32: its self-test failed"):
            open_tested(package, "fp32", BackendOptions(threads=1))


def test_onnxruntime_without_cuda(machine: Machine, package: Package) -> None:
    machine.onnxruntime.providers = (CPU,)
    with pytest.raises(BackendError, match=r"built without CUDA.*pip install 'onnxruntime-gpu"):
        open_cuda(package)


def test_no_driver(machine: Machine, package: Package) -> None:
    machine.driver.failing["cuInit"] = 100
    with pytest.raises(BackendError, match="CUDA_ERROR_NO_DEVICE"):
        open_cuda(package)


def test_no_op_library(
    machine: Machine, package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import segmaformer.runtime

    monkeypatch.setattr(onnxruntime_cuda, "cuda_library_path", cuda_library_path)
    monkeypatch.setattr(segmaformer.runtime, "__path__", [str(tmp_path)])
    with pytest.raises(BackendError, match=r"libsgmf_cuda is not part of this installation.*nvcc"):
        open_cuda(package)


def test_all_that_is_missing_is_told_at_once(machine: Machine) -> None:
    assert what_is_missing() is None
    machine.onnxruntime.providers = (CPU,)
    machine.driver.failing["cuInit"] = 100
    missing = what_is_missing()
    assert missing is not None
    assert "built without CUDA" in missing
    assert "CUDA_ERROR_NO_DEVICE" in missing


def test_on_a_gpu(package: Package) -> None:
    reason = what_is_missing()
    if reason is not None:
        pytest.skip(reason)
    tiles = random_tiles(5)
    expected = OnnxRuntimeSession(package, "fp32", BackendOptions()).run(tiles)
    for variant, tolerance in (("fp32", 1e-4), ("fp16", 5e-2)):
        found = open_cuda(package, variant).run(tiles)
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
