from __future__ import annotations

import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest
from support.packages.samples import copy_package, with_scaled_weights

from segmaformer.runtime import benchmark as module
from segmaformer.runtime.benchmark import Candidate, benchmark
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.parity.stored_reference import REFERENCE_FILE
from segmaformer.runtime.system.sending import send

ON_CPU = Candidate("onnxruntime", "cpu", "fp32")
NOT_HERE = Candidate("tensorrt", None, "fp32")


def test_an_answer_that_nobody_waits_for_is_no_failure() -> None:
    here, there = Pipe()
    here.close()
    with module._failures_sent(there):
        send(there, "too late")


def test_candidates_are_measured_and_what_does_not_run_says_why(
    tiny_package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, int, int]] = []
    monkeypatch.setenv("SGMF_CACHE", "/nonexistent")
    found, missing = benchmark(
        tiny_package_path,
        [ON_CPU, NOT_HERE],
        rounds=3,
        threads=1,
        progress=lambda *step: steps.append(step),
    )
    assert found["backend"] == "onnxruntime"
    assert found["description"].endswith("CPU, fp32, 1 thread")
    assert found["relative_error"] < 1e-4
    assert (found["judged"], found["shortcomings"]) == (True, [])
    assert 0 < found["fastest"] <= found["seconds_per_tile"] <= found["slowest"]
    assert found["tiles_per_second"] == 1 / found["seconds_per_tile"]
    if sys.platform == "linux":
        assert 10 < found["peak_mib"] < 10_000
    assert missing.keys() == {"backend", "device", "variant", "reason"}
    assert steps[0] == ("opening", 0, 2)
    assert steps[-1] == ("measuring", 3, 3)


def test_a_wrong_answer_is_not_timed(tiny_package_path: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = copy_package(tiny_package_path, tmp_path)
    package = Package.open(path)
    files = {name: package.read(name) for name in package.manifest.files}
    model = onnx.load_from_string(files["fp32.onnx"])
    files["fp32.onnx"] = with_scaled_weights(model, 0.9).SerializeToString()
    (path / REFERENCE_FILE).unlink()
    write_files(path, package.manifest, files)
    (found,) = benchmark(path, [ON_CPU], rounds=1)
    assert "of their range (at most " in found["shortcomings"][0]
    assert "seconds_per_tile" not in found


def test_a_process_that_is_killed_leaves_the_others(
    tiny_package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doomed(module._Process):
        def take_turn(self) -> None:
            if self._facts["variant"] == "fp16":
                self._process.kill()
                self._process.join()
            super().take_turn()

    monkeypatch.setattr(module, "_Process", Doomed)
    doomed = Candidate("onnxruntime", "cpu", "fp16")
    killed, kept = benchmark(tiny_package_path, [doomed, ON_CPU], rounds=2)
    assert killed["reason"] == "its process ended with code -9; -9 means too little memory"
    assert "seconds_per_tile" not in killed
    assert kept["seconds_per_tile"] > 0


def test_a_run_that_fails_says_why() -> None:
    here, there = Pipe()
    with module._failures_sent(there):
        raise RuntimeError("the device is gone")
    assert here.recv() == module._Failure("the device is gone")
