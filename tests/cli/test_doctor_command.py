from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

import segmaformer
from segmaformer.cli import doctor_command
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
    monkeypatch.setattr(doctor_command, name, missing)
    run = sgmf("doctor")
    assert run.code == 1
    assert f"missing: {part} is not here" in run.stdout
    assert sgmf("doctor", "--json").code == 1
