from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.packages.samples import copy_package, edit_manifest

from segmaformer.runtime import backends as backends_module
from segmaformer.runtime.backends import (
    BackendOptions,
    Device,
    Session,
    backend_names,
    backends,
    find_backend,
    onnxruntime_cpu,
    open_session,
    run_checked,
)
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.errors import BackendError, PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files


def open_altered(package: Package, folder: Path, content: bytes) -> Session:
    """Open a session on a well-hashed package whose fp32.onnx is `content`."""
    folder.mkdir()
    write_files(folder, package.manifest, {"fp32.onnx": content, "fp16.onnx": content})
    return open_on_cpu(Package.open(folder))


def open_on_cpu(package: Package, **settings: Any) -> Session:
    return open_session(package, backend="onnxruntime", **settings)


@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_the_function_body_alone_computes_what_the_kernel_computes(
    package: Package, tile: np.ndarray, variant: str
) -> None:
    kernel, body = (
        open_on_cpu(package, variant=variant, options=BackendOptions(use_op_library=use)).run(tile)
        for use in (True, False)
    )
    assert kernel.shape == (1, 3, *tile.shape[2:])
    assert kernel.dtype == np.float32
    tolerance = 1e-5 if variant == "fp32" else 1e-2
    assert np.abs(kernel - body).max() < tolerance * np.ptp(kernel)


def test_a_batch_of_tiles_is_the_tiles_one_by_one(package: Package, tile: np.ndarray) -> None:
    session = open_on_cpu(package)
    batch = session.run(np.concatenate([tile, -tile]))
    for index, single in enumerate((tile, -tile)):
        np.testing.assert_allclose(batch[index], session.run(single)[0], rtol=1e-4, atol=1e-4)


def test_the_description_says_what_runs(package: Package) -> None:
    import onnxruntime

    session = open_on_cpu(package, options=BackendOptions(threads=1))
    assert session.description == f"ONNX Runtime {onnxruntime.__version__}, CPU, fp32, 1 thread"


def test_threads_reach_onnx_runtime_and_the_op(package: Package) -> None:
    session = open_on_cpu(package, variant="fp16", options=BackendOptions(threads=3))
    assert session.description.endswith("fp16, 3 threads")
    options = session._session.get_session_options()  # type: ignore[attr-defined]
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("segmaformer.threads") == "3"


def test_without_a_number_all_processors_are_used(package: Package) -> None:
    options = open_on_cpu(package)._session.get_session_options()  # type: ignore[attr-defined]
    assert options.intra_op_num_threads == available_processors()


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match="threads is"):
        BackendOptions(threads=threads)


def test_an_unknown_backend_is_refused_with_those_known(package: Package) -> None:
    with pytest.raises(ValueError, match="unknown backend 'abacus'; known: auto, tensorrt"):
        open_session(package, backend="abacus")


@pytest.mark.parametrize(
    ("name", "device", "found_on", "label"),
    [
        ("onnxruntime", None, "cpu", "onnxruntime"),
        ("onnxruntime", "cpu", "cpu", "onnxruntime"),
        ("onnxruntime", "cuda", "cuda", "onnxruntime --device cuda"),
        ("tensorrt", None, "cuda", "tensorrt"),
        ("tensorrt", "cuda", "cuda", "tensorrt"),
        ("openvino", None, "cpu", "openvino"),
    ],
)
def test_name_and_device_find_a_backend(
    name: str, device: Device | None, found_on: Device, label: str
) -> None:
    found = find_backend(name, device)
    assert found is not None
    assert (found.name, found.device, found.label) == (name, found_on, label)


@pytest.mark.parametrize(
    ("name", "variant"), [("onnxruntime", "fp32"), ("tensorrt", "fp16"), ("tensorrt-rtx", "fp16")]
)
def test_what_runs_by_default_on_a_gpu(package: Package, name: str, variant: str) -> None:
    found = find_backend(name, "cuda")
    assert found is not None
    assert found.best_variant(package) == variant


def test_every_name_is_offered_once() -> None:
    names = backend_names()
    assert names[0] == "auto"
    assert len(set(names)) == len(names)
    assert all(find_backend(name, None) is not None for name in names[1:])


def test_a_backend_on_a_device_that_it_does_not_use_is_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="the backend tensorrt runs on cuda, not on cpu"):
        open_session(package, backend="tensorrt", options=BackendOptions(device="cpu"))
    with pytest.raises(ValueError, match="unknown device 'tpu'; known: cpu, cuda"):
        BackendOptions(device="tpu")  # type: ignore[arg-type]


def test_asked_for_a_gpu_nothing_falls_back_to_the_cpu(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [
        dataclasses.replace(each, missing=lambda label=each.label: f"no {label}")
        for each in backends()
    ]
    monkeypatch.setattr(backends_module, "backends", lambda: known)
    with pytest.raises(
        BackendError, match=r"no backend works on cuda here: .*no tensorrt; .*cuda$"
    ):
        open_session(package, options=BackendOptions(device="cuda"))


def test_asked_for_the_cpu_a_gpu_is_not_looked_at(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends_module, "has_nvidia_driver", lambda: True)
    lines: list[str] = []
    session = open_session(package, options=BackendOptions(device="cpu"), report=lines.append)
    assert (", CPU, fp32, " in session.description, lines) == (True, [])


def test_a_missing_variant_is_refused_with_those_there(package: Package) -> None:
    with pytest.raises(ValueError, match="has no variant 'int8'; it has fp32, fp16"):
        open_on_cpu(package, variant="int8")


@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_a_network_that_is_no_onnx_is_refused(
    package: Package, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = package.read("fp32.onnx")
    broken = {"empty": b"", "noise": bytes(range(256)), "cut": content[: len(content) // 2]}
    with pytest.raises(PackageError, match=r"fp32\.onnx is no ONNX model"):
        open_altered(package, tmp_path / "x.sgmf", broken[damage])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"tile": [\n      32,', '"tile": [\n      16,'),
        ('"channels": [\n      "MR0"\n    ]', '"channels": [\n      "MR0",\n      "MR1"\n    ]'),
        ('"name": "posterior"\n      }', '"name": "posterior"\n      },\n'
         '      {\n        "value": 3,\n        "name": "more"\n      }'),
    ],
    ids=["tile", "channels", "labels"],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_the_network_is_refused(
    package: Package, tmp_path: Path, old: str, new: str
) -> None:
    path = copy_package(package.path, tmp_path)
    edit_manifest(path, old, new)
    if "MR1" in new:
        edit_manifest(path, '"normalization": [', '"normalization": [\n      {"scheme": "none"},')
    with pytest.raises(BackendError, match="the manifest says"):
        open_on_cpu(Package.open(path))


def test_a_file_exchanged_after_opening_is_not_run(package: Package, tmp_path: Path) -> None:
    opened = Package.open(copy_package(package.path, tmp_path))
    (opened.path / "fp32.onnx").write_bytes(package.read("fp16.onnx"))
    with pytest.raises(PackageError, match=r"fp32\.onnx does not have the"):
        open_on_cpu(opened)


def test_a_tile_of_another_shape_is_a_backend_error(package: Package) -> None:
    with pytest.raises(BackendError, match="failed on a tile"):
        open_on_cpu(package).run(np.zeros((1, 1, 8, 8, 8), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    logits = np.zeros((1, 2, 2, 2, 2), np.float32)
    session: Any = SimpleNamespace(run=lambda tiles: logits, description="a network")
    assert run_checked(session, logits) is logits
    logits[0, 1, 0, :, 1] = value
    with pytest.raises(BackendError, match="2 of 16 logits from a network are NaN or infinite"):
        run_checked(session, logits)


def test_nan_tiles_do_not_pass_as_labels(package: Package, tile: np.ndarray) -> None:
    with pytest.raises(BackendError, match="NaN or infinite"):
        run_checked(open_on_cpu(package), np.full_like(tile, np.nan))


def test_a_missing_onnx_runtime_is_a_backend_error(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="pip install onnxruntime"):
        open_on_cpu(package)


def test_a_missing_op_library_is_a_backend_error(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(options: object) -> None:
        raise BackendError("the compiled op library is not part of this installation")

    monkeypatch.setattr(onnxruntime_cpu, "register_op_library", missing)
    with pytest.raises(BackendError, match="op library is not part"):
        open_on_cpu(package)
    open_on_cpu(package, options=BackendOptions(use_op_library=False))


def test_an_op_library_that_cannot_be_loaded_is_a_backend_error(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libsgmf_ops.so").write_text("no library")
    monkeypatch.setattr(
        "segmaformer.runtime.bindings.op_library.op_library_path",
        lambda: tmp_path / "libsgmf_ops.so",
    )
    with pytest.raises(BackendError, match="ONNX Runtime cannot open"):
        open_on_cpu(package)


def test_another_provider_than_asked_for_is_refused(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    fallen_back = SimpleNamespace(get_providers=lambda: ["SlowExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: fallen_back)
    with pytest.raises(BackendError, match="asked ONNX Runtime for CPUExecutionProvider, got"):
        open_on_cpu(package)
