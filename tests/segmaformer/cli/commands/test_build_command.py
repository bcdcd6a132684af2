from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from support.packages.samples import write_scan
from support.stand_ins.builder_fakes import two_labels
from support.stand_ins.gpu_fakes import NO_DEVICE
from support.stand_ins.gpu_machine import GpuMachine, brightness_package, pretend

from segmaformer.cli.commands import build
from segmaformer.runtime.backends.tensorrt import library, rtx, rtx_build
from segmaformer.runtime.bindings import cuda_driver

Sgmf = Callable[..., Any]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpuMachine:
    return pretend(monkeypatch, tmp_path)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return brightness_package(tmp_path).path


def test_an_engine_is_built_tested_and_kept(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    run = sgmf("build", package, "--batch", 2)
    assert run.code == 0
    engine = Path(run.stdout.strip())
    assert engine.parent == tmp_path / "engines"
    assert engine.read_bytes() == b"engine for 2"
    assert (engine.parent / "brightness-fp16-tensorrt.log").read_text() == "INFO: building\n"
    assert "self-test passed: TensorRT 10.3.0, Fake GPU, fp16, batch 2" in run.stderr


@pytest.mark.parametrize(
    ("target", "missing", "expected"),
    [
        ((), [], "tensorrt"),
        ((), ["tensorrt"], "tensorrt-rtx"),
        (("--target", "sm86"), [], "tensorrt-rtx"),
    ],
)
def test_auto_builds_where_it_can_and_says_so(
    sgmf: Sgmf,
    machine: GpuMachine,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: tuple[str, ...],
    missing: list[str],
    expected: str,
) -> None:
    for name, module in (("tensorrt", library), ("tensorrt-rtx", rtx)):
        reason = "it is away" if name in missing else None
        monkeypatch.setattr(module, "what_is_missing", lambda reason=reason: reason)
    monkeypatch.setattr(rtx_build, "what_is_missing", lambda: None)
    monkeypatch.setattr(build, "require_extra", lambda *_, **__: None)
    run = sgmf("build", package, *target)
    assert f", with {expected}\n" in run.stderr
    assert ("auto passes over tensorrt: " in run.stderr) == (expected != "tensorrt")


def test_auto_without_a_builder_says_why(
    sgmf: Sgmf, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (library, rtx):
        monkeypatch.setattr(module, "what_is_missing", lambda: "it is away")
    run = sgmf("build", package)
    assert (run.code, run.stdout) == (1, "")
    assert "auto passes over tensorrt-rtx: it is away" in run.stderr
    assert "no backend can build an engine here" in run.stderr


def test_infer_uses_it_and_auto_prefers_it(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    sgmf("build", package, "--batch", 4)
    scan = write_scan(tmp_path / "scan.nii.gz")
    outputs = {}
    for backend in ("tensorrt", "auto", "onnxruntime"):
        out = tmp_path / f"{backend}.nii.gz"
        run = sgmf("infer", scan, "-m", package, "-o", out, "--backend", backend)
        assert run.code == 0
        assert ("Fake GPU" in run.stderr) == (backend != "onnxruntime")
        outputs[backend] = out.read_bytes()
    assert outputs["tensorrt"] == outputs["auto"] == outputs["onnxruntime"]
    assert max(machine.trt.batches) == 4


def test_infer_without_an_engine_names_the_command(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("infer", scan, "-m", package, "--backend", "tensorrt")
    assert run.code == 1
    assert f"run: sgmf build {package} --backend tensorrt --variant fp16" in run.stderr


def test_auto_says_why_it_passes_over_a_gpu(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("infer", scan, "-m", package)
    assert run.code == 0
    assert "auto passes over tensorrt: there is no tensorrt engine" in run.stderr
    assert ", CPU, fp32, " in run.stderr


def test_an_engine_that_computes_something_else_is_not_kept(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    machine.trt.compute = lambda tiles: -np.concatenate([0 * tiles, tiles], axis=1)
    run = sgmf("build", package)
    assert (run.code, run.stdout) == (4, "")
    assert "self-test failed" in run.stderr
    assert "the engine was not kept" in run.stderr
    assert not list((tmp_path / "engines").glob("*.engine"))


@pytest.mark.parametrize(
    ("fault", "code"),
    [({"compute": lambda tiles: -two_labels(tiles)}, 4), ({"has_memory": False}, 1)],
)
def test_an_earlier_engine_stays_until_a_new_one_is_proven(
    sgmf: Sgmf,
    machine: GpuMachine,
    package: Path,
    tmp_path: Path,
    tree: Callable[[Path], dict[str, bytes | None]],
    fault: dict[str, Any],
    code: int,
) -> None:
    kept = Path(sgmf("build", package).stdout.strip())
    before = tree(kept.parent)
    machine.trt.engine = "another engine"
    for name, value in fault.items():
        setattr(machine.trt, name, value)
    assert sgmf("build", package).code == code
    after = tree(kept.parent)
    engines = [name for name in after if ".engine" in name]
    assert len(engines) == 2
    assert [after[name] for name in engines] == [before[name] for name in engines]


def test_the_facts_are_one_json_document(sgmf: Sgmf, machine: GpuMachine, package: Path) -> None:
    document = json.loads(sgmf("build", package, "--variant", "fp32", "--json").stdout)
    assert Path(document["engine"]).is_file()
    assert document["bytes"] == len(b"engine for 1")
    assert document["key"]["variant"] == "fp32"
    assert document["key"]["device"] == "Fake GPU"


def test_an_engine_for_elsewhere_is_a_file_with_facts_and_log(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    target = tmp_path / "brightness.engine"
    run = sgmf("build", package, "-o", target)
    assert (run.code, run.stdout.strip()) == (0, str(target))
    assert target.read_bytes() == b"engine for 1"
    facts = json.loads((tmp_path / "brightness.engine.json").read_text())
    assert facts["key"]["driver"] is None
    assert (tmp_path / "brightness.engine.log").exists()
    assert not list((tmp_path / "engines").glob("*.engine"))


def test_where_nothing_can_be_written_nothing_is_built(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    run = sgmf("build", package, "-o", tmp_path / "none" / "x.engine")
    assert run.code == 2
    assert machine.trt.seen == {}


def test_an_unknown_variant_is_a_usage_error(
    sgmf: Sgmf, machine: GpuMachine, package: Path
) -> None:
    run = sgmf("build", package, "--variant", "int4")
    assert run.code == 2
    assert "no variant 'int4'; it has fp32, fp16" in run.stderr


def test_no_device_is_cudas_own_text(sgmf: Sgmf, machine: GpuMachine, package: Path) -> None:
    machine.driver.failing["cuInit"] = NO_DEVICE
    run = sgmf("build", package)
    assert run.code == 1
    assert "no CUDA-capable device is detected" in run.stderr


def test_a_cache_that_others_can_write_is_an_integrity_error(
    sgmf: Sgmf, machine: GpuMachine, package: Path, tmp_path: Path
) -> None:
    (tmp_path / "engines").mkdir(mode=0o777)
    (tmp_path / "engines").chmod(0o777)
    run = sgmf("build", package)
    assert run.code == 4
    assert "can be written by others" in run.stderr


def test_an_engine_for_another_machine_is_built_without_a_gpu(
    sgmf: Sgmf, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    run = sgmf("build", package, "--backend", "tensorrt-rtx", "--target", "sm86", "--json")
    assert run.code == 0
    document = json.loads(run.stdout)
    assert Path(document["engine"]).stat().st_size == document["bytes"] > 1000
    assert (document["key"]["target"], document["key"]["device"]) == ("sm86", None)
    assert (tmp_path / "engines" / "brightness-fp16-tensorrt-rtx.log").exists()


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        (["--target", "sm12"], 1, "no target 'sm12'"),
        ([], 1, "no NVIDIA driver"),
        ([], 1, "name its GPU with --target, such as sm86"),
    ],
)
def test_a_target_that_cannot_be_known_is_refused(
    sgmf: Sgmf,
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: list[str],
    code: int,
    words: str,
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr("segmaformer.runtime.bindings.cuda_driver.LIBRARY", "libno-driver.so")
    cuda_driver.load_driver.cache_clear()
    run = sgmf("build", package, "--backend", "tensorrt-rtx", *target)
    assert run.code == code
    assert words in run.stderr
