from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stand_ins.gpu_machine import pretend

import segmaformer
from segmaformer.cli.commands import doctor
from segmaformer.runtime.bindings import cuda_driver
from segmaformer.runtime.errors import BackendError

Sgmf = Callable[..., Any]


def test_this_machine_can_infer(sgmf: Sgmf) -> None:
    run = sgmf("doctor")
    assert (run.code, run.stderr) == (0, "")
    facts = dict(line.split("  ", 1) for line in run.stdout.splitlines())
    assert facts["segmaformer"].strip() == segmaformer.__version__
    assert facts["can infer"].strip() == "yes"
    assert "portable" in facts["op library"]


def test_the_facts_are_one_json_document(sgmf: Sgmf) -> None:
    facts = json.loads(sgmf("doctor", "--json").stdout)
    assert facts["can_infer"] is True
    assert facts["processors"] >= 1


def test_what_is_missing_is_named_with_its_extra(
    sgmf: Sgmf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "nilearn", None)
    facts = json.loads(sgmf("doctor", "--json").stdout)
    assert facts["torch"] == "not installed; run: pip install 'segmaformer[export]'"
    assert facts["nilearn"] == "not installed; run: pip install 'segmaformer[demo]'"
    assert (facts["can_infer"], facts["can_export"]) == (True, False)


@pytest.mark.parametrize("part", ["op library", "ONNX Runtime"])
def test_a_machine_that_cannot_infer_ends_with_one(
    sgmf: Sgmf, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def missing() -> None:
        raise BackendError(f"{part} is not here")

    name = "op_library_path" if part == "op library" else "import_onnxruntime"
    monkeypatch.setattr(doctor, name, missing)
    run = sgmf("doctor")
    assert run.code == 1
    assert f"missing: {part} is not here" in run.stdout
    assert sgmf("doctor", "--json").code == 1


def test_every_backend_says_what_it_lacks(
    sgmf: Sgmf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("segmaformer.runtime.bindings.cuda_driver.LIBRARY", "libno-driver.so")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "engines"))
    cuda_driver.load_driver.cache_clear()
    facts = json.loads(sgmf("doctor", "--json").stdout)
    assert facts["gpu"].startswith("none: there is no NVIDIA driver here")
    assert "segmaformer[tensorrt]" in facts["backend_tensorrt"]
    assert facts["backend_onnxruntime"] == "ready"
    assert facts["engines"] == f"none yet in {tmp_path / 'engines'}"
    assert not (tmp_path / "engines").exists()
    assert facts["can_infer"] is True


def test_a_gpu_is_described(sgmf: Sgmf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path)
    facts = json.loads(sgmf("doctor", "--json").stdout)
    assert facts["gpu"] == (
        "Fake GPU, compute capability 8.7, 128 MiB shared with the processor, "
        "driver of unknown release, CUDA 12.6"
    )
    assert facts["backend_tensorrt"] == "ready"


def test_a_cache_in_others_reach_is_said(
    sgmf: Sgmf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path))
    assert "can be written by others" in json.loads(sgmf("doctor", "--json").stdout)["engines"]
