from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.packages.samples import copy_package, head_like, with_scaled_weights, write_scan

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.parity.stored_reference import REFERENCE_FILE

Sgmf = Callable[..., Any]

ON_CPU = ("--backend", "onnxruntime")


@pytest.fixture
def package(tiny_package_path: Path, tmp_path: Path) -> Path:
    return copy_package(tiny_package_path, tmp_path)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for index in range(2):
        scan = head_like((30 + index, 34, 40), seed=index)
        write_scan(tmp_path / "scans" / f"case{index}.nii.gz", scan)
    return tmp_path / "scans"


@pytest.fixture
def labels(sgmf: Sgmf, package: Path, scans: Path, tmp_path: Path) -> Path:
    """Return fp32's labels, with one slab of them taken away."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for scan in sorted(scans.iterdir()):
        path = folder / scan.name
        assert sgmf("infer", scan, "-m", package, "-o", path, *ON_CPU).code == 0
        image = nibabel.load(path)
        truth = np.asarray(image.dataobj).copy()
        truth[:15] = 0
        nibabel.save(nibabel.Nifti1Image(truth, image.affine), path)
    return folder


def _rewrite(path: Path, **changed: bytes | None) -> None:
    """Replace files of a package, or drop them, as its author would."""
    package = Package.open(path)
    names = {name.replace(".", "_"): name for name in package.manifest.files}
    files = {name: changed.get(key, package.read(name)) for key, name in names.items()}
    kept = {name: content for name, content in files.items() if content is not None}
    (path / REFERENCE_FILE).unlink()
    write_files(path, package.manifest, kept)


def _scaled(path: Path, file: str) -> bytes:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string((path / file).read_bytes())
    content: bytes = with_scaled_weights(model, 0.99).SerializeToString()
    return content


def test_every_variant_is_compared_with_pytorch(sgmf: Sgmf, package: Path) -> None:
    run = sgmf("verify", package, *ON_CPU)
    assert run.code == 0
    lines = run.stdout.splitlines()
    assert lines[0] == "reference: PyTorch float32 at export"
    assert [line.split()[:2] for line in lines[1:]] == [["ok", "fp32"], ["ok", "fp16"]]
    assert "ONNX Runtime" in run.stderr
    document = json.loads(sgmf("verify", package, *ON_CPU, "--variant", "fp32", "--json").stdout)
    (result,) = document["runs"]
    assert result["variant"] == "fp32"
    assert 0 < result["relative_error"] < 1e-5
    assert not package.with_name("tiny.sgmf.verification.json").exists()


def test_a_network_that_computes_something_else_exits_4(sgmf: Sgmf, package: Path) -> None:
    _rewrite(package, fp32_onnx=_scaled(package, "fp32.onnx"))
    run = sgmf("verify", package, *ON_CPU, "--variant", "fp32")
    assert run.code == 4
    assert run.stdout.splitlines()[1].startswith("falls short  fp32")
    assert "of their range (at most 2" in run.stderr


def test_without_a_stored_reference_fp32_stands_in(sgmf: Sgmf, package: Path) -> None:
    _rewrite(package, reference_npz=None)
    run = sgmf("verify", package, *ON_CPU)
    assert run.code == 0
    assert run.stdout.startswith("reference: ONNX Runtime, CPU, fp32\n")
    assert "no PyTorch reference" in run.stderr


def test_scans_with_label_maps_are_scored_and_recorded(
    sgmf: Sgmf, package: Path, scans: Path, labels: Path
) -> None:
    run = sgmf("verify", package, "--data", scans, "--labels", labels, *ON_CPU, "--record")
    assert run.code == 0
    assert "means over 2 cases [95 %, percentile bootstrap" in run.stdout
    document = json.loads(package.with_name("tiny.sgmf.verification.json").read_text())
    assert document["cases"] == ["case0", "case1"]
    reference, fp16 = document["runs"]
    assert (reference["variant"], fp16["variant"]) == ("fp32", "fp16")
    assert reference["label_agreement"] == 1
    assert fp16["label_agreement"] > 0.999
    found = fp16["structures"]["posterior"]
    assert 0 < found["dice"]["low"] <= found["dice"]["value"] <= found["dice"]["high"] < 1
    assert found["hd95_mm"]["value"] > 0
    assert found["volume_error_ml"]["value"] > 0
    assert abs(found["dice_change"]["value"]) < 1e-3
    assert Package.open(package)


def test_a_case_without_a_structure_counts(
    sgmf: Sgmf, package: Path, scans: Path, labels: Path
) -> None:
    """A label map of zeros says that nothing is there; what was found is then wrong."""
    path = labels / "case0.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    arguments = ("--data", scans, "--labels", labels, *ON_CPU, "--variant", "fp32", "--json")
    run = sgmf("verify", package, *arguments)
    assert run.code == 0
    document = json.loads(run.stdout)
    assert (document["cases"], document["refused"]) == (["case0", "case1"], {})
    (reference,) = document["runs"]
    assert reference["structures"]["posterior"]["dice"]["cases"] == 2
    assert reference["structures"]["posterior"]["dice"]["low"] == 0


def test_auto_runs_nothing_twice(sgmf: Sgmf, package: Path, scans: Path) -> None:
    (scans / "case1.nii.gz").unlink()
    backends = ("--backend", "auto", *ON_CPU, "--device", "cpu")
    run = sgmf("verify", package, "--data", scans, *backends, "--variant", "fp16")
    assert run.code == 0
    assert [line.split()[1] for line in run.stdout.splitlines()[1:]] == ["fp32", "fp16"]


def test_a_case_that_cannot_be_used_leaves_the_others(
    sgmf: Sgmf, package: Path, scans: Path, labels: Path
) -> None:
    (labels / "case0.nii.gz").unlink()
    (scans / "broken.nii.gz").write_bytes(b"no scan")
    arguments = ("--data", scans, "--labels", labels, *ON_CPU, "--variant", "fp32", "--json")
    run = sgmf("verify", package, *arguments)
    assert run.code == 3
    document = json.loads(run.stdout)
    assert document["cases"] == ["case1"]
    assert "no label map of case0" in document["refused"]["case0"]
    assert document["refused"].keys() == {"broken", "case0"}
    (reference,) = document["runs"]
    assert reference["structures"]["anterior"]["dice"]["low"] is None


def test_a_variant_that_differs_on_scans_exits_4(sgmf: Sgmf, package: Path, scans: Path) -> None:
    # The logits' signs change, and with them the labels.
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string((package / "fp32.onnx").read_bytes())
    _rewrite(package, fp16_onnx=with_scaled_weights(model, -1).SerializeToString())
    run = sgmf("verify", package, "--data", scans, *ON_CPU)
    assert run.code == 4
    assert "fp16 on ONNX Runtime" in run.stderr
    assert "with the reference is" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "."), "--data"),
        (("--layers", "--backend", "openvino"), "not available for openvino; it is for"),
        (("--layers", *ON_CPU, "--device", "cuda"), "not available for onnxruntime on cuda"),
        (("--layers", "--backend", "auto", "--backend", "tensorrt"), "one backend at a time"),
        (("--variant", "int4"), "has no variant 'int4'; it has fp32, fp16"),
        (("--backend", "tensorrt", "--device", "cpu"), "not on cpu"),
    ],
)
def test_usage(sgmf: Sgmf, package: Path, arguments: tuple[str, ...], message: str) -> None:
    run = sgmf("verify", package, *arguments)
    assert run.code == 2
    assert message in run.stderr


def test_layers_are_compared_with_fp32(sgmf: Sgmf, package: Path) -> None:
    pytest.importorskip("onnx")
    run = sgmf("verify", package, *ON_CPU, "--layers", "--json")
    assert run.code == 0
    document = json.loads(run.stdout)
    assert document["layers"].keys() == {"fp16"}
    layers = document["layers"]["fp16"]
    assert layers["values"][-1]["tensor"] == "logits"
    shown = sgmf("verify", package, *ON_CPU, "--layers").stdout
    assert (
        f"fp16: 0 of {len(layers['values'])} values beyond 0.01 "
        "[ONNX Runtime, CPU, fp16; tiles: 1 of a phantom]"
    ) in shown


def test_layers_are_compared_on_a_scan(sgmf: Sgmf, package: Path, scans: Path) -> None:
    pytest.importorskip("onnx")
    (scans / "broken.nii.gz").write_bytes(b"no scan")
    run = sgmf("verify", package, *ON_CPU, "--layers", "--data", scans, "--variant", "fp16")
    assert run.code == 3
    assert "tiles: 4 of case0]" in run.stdout


def test_layers_of_engines_are_compared_with_the_cpus(
    sgmf: Sgmf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("polygraphy", reason="needs the extra tensorrt or rtx")
    from support.stand_ins.gpu_machine import brightness_package, pretend
    from support.stand_ins.marked_engine_fakes import FakeMarkingTensorRt, pretend_polygraphy

    machine = pretend(monkeypatch, tmp_path, FakeMarkingTensorRt)
    pretend_polygraphy(monkeypatch, machine.driver)
    package = brightness_package(tmp_path).path
    arguments = ("--backend", "tensorrt", "--variant", "fp32")
    assert sgmf("build", package, *arguments).code == 0
    run = sgmf("verify", package, *arguments, "--layers", "--json")
    assert run.code == 0
    layers = json.loads(run.stdout)["layers"]["fp32"]
    assert layers["backend"].startswith("TensorRT 10.3.0, Fake GPU, fp32, engines built with")
    assert layers["values"] == [
        {"tensor": "nothing", "operator": "Sub", "relative_error": 0.0},
        {"tensor": "logits", "operator": "Concat", "relative_error": 0.0},
    ]
    assert layers["backend"] in run.stderr


def test_a_folder_without_scans_is_refused(sgmf: Sgmf, package: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = sgmf("verify", package, "--data", tmp_path / "empty", *ON_CPU)
    assert run.code == 3
    assert "no scans are in" in run.stderr


def test_a_backend_that_is_not_there_is_an_error(sgmf: Sgmf, package: Path) -> None:
    run = sgmf("verify", package, "--backend", "tensorrt")
    assert run.code == 1
    assert "sgmf: " in run.stderr
