from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from support.stand_ins.builder_fakes import two_labels
from support.stand_ins.gpu_fakes import NO_DEVICE
from support.stand_ins.gpu_machine import TILE, GpuMachine, brightness_package, pretend

from segmaformer.runtime.backends import BackendOptions, open_session, run_checked
from segmaformer.runtime.backends.tensorrt import library as tensorrt_library
from segmaformer.runtime.backends.tensorrt.library import load_tensorrt, what_is_missing
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.backends.tensorrt.tensorrt import open_tensorrt
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, EngineError, MissingExtraError
from segmaformer.runtime.package.reader import Package

WITH_SCAN = b"... SelectiveScan ..."


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpuMachine:
    return pretend(monkeypatch, tmp_path)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return brightness_package(tmp_path)


def keep_engine(package: Package, *, batch: int = 1, content: bytes = b"an engine") -> Path:
    key = load_tensorrt(b"").key(package, "fp16")
    return EngineCache().store(key.for_batch(batch), content)


def open_engine(package: Package) -> EngineSession:
    return open_tensorrt(package, "fp16", BackendOptions())


def test_a_kept_engine_runs(machine: GpuMachine, package: Package) -> None:
    machine.trt.batch = 2
    keep_engine(package, batch=2)
    session = open_session(package, backend="tensorrt")
    assert session.description == "TensorRT 10.3.0, Fake GPU, fp16, batch 2"
    assert machine.trt.opened == [b"an engine"]
    tiles = np.random.default_rng(0).normal(size=(5, 1, *TILE)).astype(np.float32)
    np.testing.assert_array_equal(session.run(tiles), two_labels(tiles))


def test_logits_that_are_no_numbers_are_refused(machine: GpuMachine, package: Package) -> None:
    keep_engine(package)
    with pytest.raises(BackendError, match=r"logits from TensorRT 10\.3\.0, Fake GPU, fp16"):
        run_checked(open_engine(package), np.full((1, 1, *TILE), np.nan, np.float32))


def test_without_an_engine_the_command_is_named(machine: GpuMachine, package: Package) -> None:
    with pytest.raises(
        BackendError, match=r"run: sgmf build \S+brightness\.sgmf --backend tensorrt --variant fp16"
    ):
        open_engine(package)


def test_an_engine_of_another_device_is_not_opened(machine: GpuMachine, package: Package) -> None:
    keep_engine(package)
    machine.driver.name = "Another GPU"
    with pytest.raises(BackendError, match="the device was Fake GPU, here it is Another GPU"):
        open_engine(package)
    assert machine.trt.opened == []


def test_an_altered_engine_never_reaches_tensorrt(machine: GpuMachine, package: Package) -> None:
    path = keep_engine(package)
    path.write_bytes(b"evil code")
    with pytest.raises(EngineError, match="SHA-256"):
        open_engine(package)
    path.parent.chmod(0o777)
    with pytest.raises(EngineError, match="can be written by others"):
        open_engine(package)
    assert machine.trt.opened == []


def test_the_identity_changes_with_the_engine(machine: GpuMachine, package: Package) -> None:
    keep_engine(package)
    first = open_engine(package).identity
    assert open_engine(package).identity == first
    keep_engine(package, content=b"built again")
    assert open_engine(package).identity != first


def test_the_plugin_is_loaded_for_a_scan_and_only_once(machine: GpuMachine) -> None:
    assert load_tensorrt(b"no scan").plugin_sha256 is None
    assert machine.trt.loaded == []
    first = load_tensorrt(WITH_SCAN).plugin_sha256
    assert load_tensorrt(WITH_SCAN).plugin_sha256 == first
    assert machine.trt.loaded == [str(machine.plugin)]
    machine.plugin.write_bytes(b"another build")
    assert load_tensorrt(WITH_SCAN).plugin_sha256 != first


def test_a_plugin_that_does_not_load_is_an_error(machine: GpuMachine) -> None:
    machine.trt.plugin_loads = False
    with pytest.raises(BackendError, match=r"10\.3\.0 cannot load the plugin \S+libsgmf_tensorrt"):
        load_tensorrt(WITH_SCAN)


def test_a_plugin_that_was_registered_by_others_is_used(machine: GpuMachine) -> None:
    machine.trt.loaded.append(str(machine.plugin))
    assert load_tensorrt(WITH_SCAN).plugin_sha256 is not None


def test_the_installed_plugin_loads_in_a_real_registry() -> None:
    """TensorRT-RTX has the same registry; in a process of its own, for its parser's sake."""
    pytest.importorskip("tensorrt_rtx")
    try:
        tensorrt_library.plugin_path()
    except BackendError as error:
        pytest.skip(str(error))
    code = (
        "import tensorrt_rtx as trt\n"
        "from segmaformer.runtime.backends.tensorrt import library\n"
        "from segmaformer.runtime.backends.tensorrt.messages import Messages\n"
        "messages = Messages(trt)\n"
        "builder = trt.Builder(messages.logger)\n"
        "digests = {library._load_plugin(trt, messages) for _ in range(2)}\n"
        "creator = library._creator(trt.get_plugin_registry())\n"
        "print(len(digests), creator.name, creator.plugin_version, creator.plugin_namespace)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.returncode) == ("1 SelectiveScan 1 segmaformer", 0), run.stderr


@pytest.mark.parametrize("version", ["10.2.0", "8.6.1", "12.0.0", "garbage"])
def test_versions_that_it_was_not_written_for_are_refused(
    machine: GpuMachine, version: str
) -> None:
    machine.trt.__version__ = version
    with pytest.raises(BackendError, match=f"TensorRT {version} is installed; expected 10.3"):
        load_tensorrt(b"")


@pytest.mark.parametrize("version", ["10.3.0", "10.16.2.10", "11.4.1"])
def test_versions_from_jetpack_6_to_11_are_taken(machine: GpuMachine, version: str) -> None:
    machine.trt.__version__ = version
    assert load_tensorrt(b"").version == version


def test_what_is_missing_is_all_named(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch, package: Package
) -> None:
    assert what_is_missing() is None
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("segmaformer.runtime.bindings.cuda_driver.LIBRARY", "libno-driver.so")
    missing = what_is_missing()
    assert missing is not None
    for words in ("segmaformer[tensorrt]", "JetPack", "no NVIDIA driver"):
        assert words in missing
    with pytest.raises(MissingExtraError, match="cannot be imported"):
        open_engine(package)


def test_a_driver_that_does_not_start_says_cudas_own_text(
    machine: GpuMachine, package: Package
) -> None:
    machine.driver.failing["cuInit"] = NO_DEVICE
    with pytest.raises(BackendError, match="no CUDA-capable device is detected"):
        open_engine(package)


def test_an_installation_without_the_plugin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmaformer.runtime

    monkeypatch.setattr(segmaformer.runtime, "__path__", [])
    with pytest.raises(BackendError, match="libsgmf_tensorrt is not part of this installation"):
        tensorrt_library.plugin_path()
