from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.networks import TINY_TILE, save_tiny_checkpoint
from support.networks.quick_search import hasten_search
from support.packages.samples import head_like, with_scaled_weights, write_scan

torch = pytest.importorskip("torch")

from segmaformer.calibration.calibrate import CalibrationOptions
from segmaformer.calibration.scores.gate import Gate
from segmaformer.checkpoint import Checkpoint, load_checkpoint
from segmaformer.export import pipeline
from segmaformer.export.float16 import float32_ladder
from segmaformer.export.pipeline import ExportOptions, export_package
from segmaformer.export.scan_op import scan_nodes
from segmaformer.models import create_model
from segmaformer.runtime.backends import open_session
from segmaformer.runtime.errors import InputError, ParityError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.system.digest import sha256_of, sha256_of_all


@pytest.fixture(autouse=True)
def traced_once(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Any) -> None:
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: tiny_onnx)


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Any) -> Callable[[float], None]:
    """Scale weights of the traced network by a factor."""
    return lambda factor: monkeypatch.setattr(
        pipeline, "export_onnx", lambda *_, **__: with_scaled_weights(tiny_onnx, factor)
    )


@pytest.fixture
def lines() -> list[str]:
    return []


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_package_holds_what_the_checkpoint_says(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    package = export_package(tiny_checkpoint, tmp_path / "brain.sgmf")
    assert package == Package.open(tmp_path / "brain.sgmf")
    assert listing(package.path) == ["card.md", "fp32.onnx", "manifest.json", "reference.npz"]
    manifest = package.manifest
    assert manifest.name == "brain"
    assert manifest.network.name == "segmaformer"
    assert manifest.network.config == tiny_checkpoint.config
    assert manifest.network.checkpoint_file == "tiny.pth"
    assert manifest.network.checkpoint_sha256 == tiny_checkpoint.sha256
    assert manifest.network.assumptions == tiny_checkpoint.assumptions
    assert manifest.preprocessing == tiny_checkpoint.preprocessing
    assert manifest.tiling == tiny_checkpoint.tiling
    assert manifest.output == tiny_checkpoint.output
    assert manifest.verification_tiles == "2 tiles of phantoms (no scan was given)"
    assert {"segmaformer", "torch", "onnx", "onnxruntime"} <= set(manifest.software)
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(
        manifest.created
    )
    assert datetime.timedelta(0) <= age + datetime.timedelta(seconds=1) < datetime.timedelta(1)
    card = package.read("card.md").decode()
    assert "| 2 | posterior |" in card
    assert "fp32 |" in card


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_names_that_are_no_text(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint = dataclasses.replace(tiny_checkpoint, path=Path(os.fsdecode(b"model\xff.pth")))
    package = export_package(checkpoint, tmp_path / os.fsdecode(b"brain\xff.sgmf"))
    assert package.manifest.name == "brain?"
    assert package.manifest.network.checkpoint_file == "model?.pth"
    assert "`model?.pth`" in package.read("card.md").decode()


def test_parity_of_each_variant_is_recorded(
    tiny_checkpoint: Checkpoint, tmp_path: Path, lines: list[str]
) -> None:
    package = export_package(
        tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(fp16=True), report=lines.append
    )
    variants = package.manifest.variants
    assert list(variants) == ["fp32", "fp16"]
    assert variants["fp32"].precision == {"default": "float32"}
    assert variants["fp16"].precision["Conv"] == "float16"
    for variant in variants.values():
        assert variant.parity["tiles"] == 2
        assert set(variant.parity["dice"]) <= {"0", "1", "2"}
    assert variants["fp32"].parity["relative_error"] < 1e-5
    assert variants["fp32"].parity["scans"] == 3
    assert variants["fp32"].parity["scan_error"] < 1e-6
    assert "scans" not in variants["fp16"].parity
    assert "Its 3 selective scans were compared one by one" in package.read("card.md").decode()
    assert 1e-5 < variants["fp16"].parity["relative_error"] < 0.1
    assert variants["fp16"].parity["label_agreement"] >= 0.999
    assert any(line.startswith("fp16: logits within") for line in lines)
    assert any(
        line.startswith("reference: PyTorch float32 on 2 tiles of phantoms") for line in lines
    )


def test_the_package_computes_what_the_checkpoint_computes(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    package = export_package(tiny_checkpoint, tmp_path / "tiny.sgmf")
    tile = np.random.default_rng(3).normal(size=(2, 1, *TINY_TILE)).astype(np.float32)
    with torch.no_grad():
        expected = tiny_checkpoint.model(torch.from_numpy(tile)).numpy()
    found = open_session(package).run(tile)
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)


@pytest.mark.parametrize("names", [False, True])
def test_tiles_of_a_given_scan_decide_and_are_named_where_that_is_wanted(
    tiny_checkpoint: Checkpoint, tmp_path: Path, names: bool
) -> None:
    scan = write_scan(tmp_path / "subject 7.nii.gz", head_like((60, 40, 36)) + np.float32(1))
    options = ExportOptions(verify_scan=(scan,), names=names)
    package = export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", options)
    said = f"4 tiles of a scan,{' subject 7.nii.gz,' * names} SHA-256 {sha256_of(scan)}"
    assert package.manifest.verification_tiles == said
    assert package.manifest.variants["fp32"].parity["tiles"] == 4
    card = package.read("card.md").decode()
    assert f"on {said}." in card
    written = card + (package.path / "manifest.json").read_text()
    assert ("subject 7" in written) == names
    assert str(tmp_path) not in written


def test_a_folder_of_dicom_may_decide(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from support.scans.dicom_files import Series

    voxels = (head_like((60, 40, 36)) * 100 + 500).clip(0, 4000).astype("u2")
    folder = Series(voxels, step_mm=(0, 0.7, 2.4)).write(tmp_path / "subject 7")
    reading = ScanOptions(where=("SeriesNumber=3",))
    options = ExportOptions(verify_scan=(folder,), reading=reading)
    package = export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", options)
    digest = sha256_of_all(folder.iterdir())
    said = f"tiles of a scan, SHA-256 {digest}; DICOM images were chosen by SeriesNumber=3"
    assert package.manifest.verification_tiles.endswith(said)


def test_regions_are_exported_in_the_order_in_which_they_are_painted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"embed_dims": [8, 8, 10, 16], "depths": [1] * 4, "decoder_head_embedding_dim": 8}
    torch.save(create_model("segformer3d", **small).state_dict(), tmp_path / "model.bin")
    checkpoint = load_checkpoint(tmp_path / "model.bin", patch_size=(16, 16, 32))
    traced: list[Any] = []

    def trace(model: Any, *_: object, **__: object) -> None:
        traced.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "export_onnx", trace)
    with pytest.raises(KeyboardInterrupt):
        export_package(checkpoint, tmp_path / "brain.sgmf")
    own, exported = (
        model.segformer_decoder.linear_pred.weight for model in (checkpoint.model, *traced)
    )
    assert torch.equal(exported, own[[1, 0, 2]])


def test_an_altered_weight_is_refused_with_place_and_size(
    tiny_checkpoint: Checkpoint, damage: Callable[[float], None], tmp_path: Path
) -> None:
    damage(1.01)
    with pytest.raises(ParityError) as caught:
        export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(fp16=True))
    message = str(caught.value)
    assert message.startswith("fp32 does not match PyTorch: logits differ by 0.0")
    assert "of their range (at most 2e-05)" in message
    assert "tile " in message
    assert "channel " in message
    assert "voxel (" in message
    assert listing(tmp_path) == []


def test_a_wrong_scan_is_refused_by_name(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tiny_onnx: Any, tmp_path: Path
) -> None:
    altered = type(tiny_onnx)()
    altered.CopyFrom(tiny_onnx)
    names = scan_nodes(altered)[-1].input
    names[3], names[4] = names[4], names[3]
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: altered)
    refusal = r"selective scan \d of \d .* is none of PyTorch's: .* in B, C"
    with pytest.raises(ParityError, match=refusal):
        export_package(tiny_checkpoint, tmp_path / "tiny.sgmf")
    assert listing(tmp_path) == []


def test_a_shortfall_leaves_the_package_that_was_there(
    tiny_checkpoint: Checkpoint, damage: Callable[[float], None], tmp_path: Path
) -> None:
    first = export_package(tiny_checkpoint, tmp_path / "tiny.sgmf")
    damage(1.01)
    with pytest.raises(ParityError):
        export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(overwrite=True))
    assert Package.open(tmp_path / "tiny.sgmf") == first
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.sgmf"]


LADDER = float32_ladder("segmaformer")


def fail_on_rungs(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Damage the network on the first `count` rungs of the ladder, leave it exact on others."""

    def convert(graph: Any, *, float32_ops: frozenset[str]) -> Any:
        rung = [each.float32_ops for each in LADDER].index(float32_ops)
        return with_scaled_weights(graph, float(rung >= count)), {"rung": str(rung)}

    monkeypatch.setattr(pipeline, "to_float16", convert)


def test_float16_falls_back_to_more_float32_and_says_so(
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lines: list[str],
) -> None:
    fail_on_rungs(monkeypatch, 1)
    package = export_package(
        tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(fp16=True), report=lines.append
    )
    assert package.manifest.variants["fp16"].precision == {"rung": "1"}
    assert package.manifest.variants["fp16"].parity["rung"] == LADDER[1].name
    (retry,) = [line for line in lines if "trying again" in line]
    assert retry.startswith("fp16 does not match PyTorch: ")


def test_float16_that_never_agrees_is_refused(
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lines: list[str],
) -> None:
    fail_on_rungs(monkeypatch, len(LADDER))
    with pytest.raises(ParityError, match=r"fp16 does not match .* of labels are equal .* tile"):
        export_package(
            tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(fp16=True), report=lines.append
        )
    assert sum("trying again" in line for line in lines) == len(LADDER) - 1
    assert listing(tmp_path) == []


def test_an_existing_package_is_refused_before_any_work(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = export_package(tiny_checkpoint, tmp_path / "tiny.sgmf")
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: pytest.fail("traced in vain"))
    with pytest.raises(FileExistsError, match="--overwrite"):
        export_package(tiny_checkpoint, tmp_path / "tiny.sgmf")
    assert Package.open(tmp_path / "tiny.sgmf") == first


def test_an_existing_package_is_replaced_where_asked_for(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(fp16=True))
    export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(overwrite=True))
    names = ["card.md", "fp32.onnx", "manifest.json", "reference.npz"]
    assert listing(tmp_path / "tiny.sgmf") == names
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.sgmf"]


@pytest.mark.parametrize("stage", ["export_onnx", "ParityGate", "to_float16", "model_card"])
def test_an_interrupt_at_any_stage_leaves_nothing(
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stage: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(fp16=True))
    assert listing(tmp_path) == []


def test_a_scan_that_does_not_fit_is_refused_and_leaves_nothing(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match="expects 1 channel"):
        export_package(
            tiny_checkpoint, tmp_path / "tiny.sgmf", ExportOptions(verify_scan=(scan, scan))
        )
    assert listing(tmp_path) == ["scan.nii.gz"]


@pytest.fixture
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for index in range(3):
        write_scan(folder / f"case{index}.nii.gz", head_like((33, 34, 40), seed=index))
    return folder


def require_dice(monkeypatch: pytest.MonkeyPatch, least: float) -> None:
    options = functools.partial(CalibrationOptions, gate=Gate(least))
    monkeypatch.setattr(pipeline, "CalibrationOptions", options)


def test_int8_variants_are_calibrated_before_the_package_appears(
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scans: Path,
) -> None:
    require_dice(monkeypatch, 0.9)
    options = ExportOptions(calibration_data=scans)
    package = export_package(tiny_checkpoint, tmp_path / "tiny.sgmf", options)
    assert list(package.manifest.variants) == ["fp32", "int8", "int8-cpu"]
    assert package.manifest.name == "tiny"
    assert package.manifest.calibration is not None
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.sgmf"]


def test_int8_that_falls_short_leaves_nothing(
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scans: Path,
) -> None:
    require_dice(monkeypatch, 1.0)
    hasten_search(monkeypatch)
    with pytest.raises(ParityError, match="int8 does not match fp32"):
        export_package(tiny_checkpoint, tmp_path / "t.sgmf", ExportOptions(calibration_data=scans))
    assert listing(tmp_path) == []


def test_a_checkpoint_without_a_patch_size_is_refused(tmp_path: Path) -> None:
    trained = torch.load(
        save_tiny_checkpoint(tmp_path / "full.pth"), weights_only=True, map_location="cpu"
    )
    torch.save(trained["network_weights"], tmp_path / "bare.pth")
    with pytest.raises(InputError, match="patch"):
        export_package(load_checkpoint(tmp_path / "bare.pth"), tmp_path / "bare.sgmf")
    assert listing(tmp_path) == ["bare.pth", "full.pth"]


def test_codes_stand_in_the_manifest(
    tiny_checkpoint: Checkpoint, tmp_path: Path, lines: list[str]
) -> None:
    options = ExportOptions(codes="hippocampus")
    package = export_package(tiny_checkpoint, tmp_path / "a.sgmf", options, report=lines.append)
    values = {name: codes.type.value for name, codes in package.manifest.codes.items()}
    assert values == {"anterior": "5366008", "posterior": "5366008"}
    assert not [line for line in lines if "without a code" in line]


def test_codes_of_other_labels_end_the_export_before_its_work(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has none of the labels"):
        export_package(tiny_checkpoint, tmp_path / "a.sgmf", ExportOptions(codes="acdc"))
    assert listing(tmp_path) == []
