from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segmaformer.cli.commands import bench
from segmaformer.runtime.backends import backends
from segmaformer.runtime.benchmark import Candidate

Sgmf = Callable[..., Any]

TIMED = {
    "description": "ONNX Runtime, CPU",
    "label_agreement": 0.99975,
    "judged": True,
    "shortcomings": [],
    "seconds_per_tile": 0.2,
    "fastest": 0.19,
    "slowest": 0.25,
    "tiles_per_second": 5.0,
    "peak_mib": 300.4,
}
IDLE = {"reason": "there is no engine"}
WRONG = {"description": "ONNX Runtime, CPU", "shortcomings": ["logits differ by 0.1"]}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Candidate]]:
    """Let nothing be measured: every candidate has the result of its backend."""

    def pretend(**results: dict[str, Any]) -> list[Candidate]:
        asked: list[Candidate] = []

        def benchmark(
            folder: Path, candidates: list[Candidate], **_: object
        ) -> list[dict[str, Any]]:
            asked.extend(candidates)
            return [{**vars(each), **results[each.backend]} for each in candidates]

        monkeypatch.setattr(bench, "benchmark", benchmark)
        return asked

    return pretend


def test_every_variant_of_what_works_here_is_measured(sgmf: Sgmf, tiny_package_path: Path) -> None:
    run = sgmf("bench", tiny_package_path, "--device", "cpu", "--rounds", "1", "--json")
    assert run.code == 0
    document = json.loads(run.stdout)
    assert document["package"] == "tiny"
    assert document["rounds"] == 1
    by_place = {(each["backend"], each["variant"]): each for each in document["runs"]}
    assert {("onnxruntime", "fp32"), ("onnxruntime", "fp16")} <= by_place.keys()
    assert all(each["seconds_per_tile"] > 0 for each in document["runs"])


def test_the_table_has_the_times_beside_the_parity(
    sgmf: Sgmf, tiny_package_path: Path, measured: Callable[..., list[Candidate]]
) -> None:
    asked = measured(onnxruntime=TIMED, tensorrt=IDLE)
    arguments = ("--backend", "onnxruntime", "--backend", "onnxruntime", "--variant", "fp16")
    run = sgmf("bench", tiny_package_path, *arguments)
    assert run.code == 0
    assert asked == [Candidate("onnxruntime", None, "fp16")]
    head, row = run.stdout.splitlines()
    assert head.split()[:3] == ["variant", "ms", "a"]
    figures = ["200.0", "190.0", "250.0", "5.00", "300", "99.9750%"]
    assert row.split() == ["fp16", *figures, "ONNX", "Runtime,", "CPU"]


def test_a_variant_without_a_gate_is_marked(
    sgmf: Sgmf, tiny_package_path: Path, measured: Callable[..., list[Candidate]]
) -> None:
    measured(onnxruntime={**TIMED, "judged": False, "peak_mib": None})
    run = sgmf("bench", tiny_package_path, "--backend", "onnxruntime", "--variant", "fp16")
    assert "5.00     -         99.9750%, not judged" in run.stdout


def test_a_wrong_answer_exits_4(
    sgmf: Sgmf, tiny_package_path: Path, measured: Callable[..., list[Candidate]]
) -> None:
    measured(onnxruntime=WRONG)
    run = sgmf("bench", tiny_package_path, "--backend", "onnxruntime", "--variant", "fp32")
    assert (run.code, run.stdout) == (4, "")
    assert "sgmf: fp32 on ONNX Runtime, CPU: logits differ by 0.1" in run.stderr


def test_what_was_named_and_does_not_run_exits_1(
    sgmf: Sgmf, tiny_package_path: Path, measured: Callable[..., list[Candidate]]
) -> None:
    measured(onnxruntime=TIMED, tensorrt=IDLE)
    both = ("--backend", "onnxruntime", "--backend", "tensorrt", "--variant", "fp32")
    run = sgmf("bench", tiny_package_path, *both)
    assert run.code == 1
    assert len(run.stdout.splitlines()) == 2
    assert "sgmf: fp32 on tensorrt: there is no engine" in run.stderr


def test_what_was_not_named_may_lack_an_engine(
    sgmf: Sgmf,
    tiny_package_path: Path,
    measured: Callable[..., list[Candidate]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = [dataclasses.replace(each, missing=lambda: None) for each in backends()]
    monkeypatch.setattr(bench, "backends", lambda: everything)
    idle = dict.fromkeys((each.name for each in everything), IDLE)
    taken = measured(**{**idle, "onnxruntime": TIMED})
    assert sgmf("bench", tiny_package_path).code == 0
    assert {(c.backend, c.variant) for c in taken if c.backend.startswith("openvino")} == {
        ("openvino", "fp32"),
        ("openvino", "fp16"),
    }
    measured(**idle)
    assert sgmf("bench", tiny_package_path).code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "int4"), "has no variant 'int4'; it has fp32, fp16"),
        (("--backend", "tensorrt", "--device", "cpu"), "not on cpu"),
        (("--backend", "auto"), "'auto' is not one of"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_usage(
    sgmf: Sgmf, tiny_package_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    run = sgmf("bench", tiny_package_path, *arguments)
    assert run.code == 2
    assert message in run.stderr
