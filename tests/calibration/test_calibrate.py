from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.quick_search import hasten_search
from support.packages.samples import copy_package, head_like, write_scan
from support.packages.signing import SigningKey, sign_package

onnx = pytest.importorskip("onnx")

from segmaformer.calibration import calibrate as module
from segmaformer.calibration import partial_state
from segmaformer.calibration.calibrate import CalibrationOptions, calibrate
from segmaformer.calibration.flavours import CPU, FLAVOURS, TENSORRT
from segmaformer.calibration.histogram import Histogram
from segmaformer.calibration.layers import find_layers
from segmaformer.calibration.placement import place
from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.tiles import TileOptions
from segmaformer.export.separate_ops import separate_layers
from segmaformer.runtime.backends import open_session
from segmaformer.runtime.errors import InputError, PackageError, ParityError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.digest import sha256_of

# The small network's weights are random, so its logits lie close together.
OPTIONS = CalibrationOptions(tiles=TileOptions(tiles=5), gate=Gate(0.9))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for index in range(4):
        write_scan(folder / f"case{index}.nii.gz", head_like((30 + index, 34, 40), seed=index))
    return folder


@pytest.fixture
def original(tiny_package_path: Path, tmp_path: Path) -> Path:
    return copy_package(tiny_package_path, tmp_path)


@pytest.fixture(scope="module")
def calibrated(
    tiny_package_path: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory
) -> Package:
    """Copy it before changing it."""
    path = copy_package(tiny_package_path, tmp_path_factory.mktemp("calibrated"))
    return calibrate(path, scans, OPTIONS)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def beside(package: Path) -> list[str]:
    return sorted(path.name for path in package.parent.iterdir())


def test_the_package_gains_both_flavours_and_keeps_the_rest(
    calibrated: Package, tiny_package_path: Path
) -> None:
    before = Package.open(tiny_package_path)
    assert list(calibrated.manifest.variants) == ["fp32", "fp16", "int8", "int8-cpu"]
    assert {"int8.onnx", "int8_cpu.onnx", "card.md"} <= set(calibrated.manifest.files)
    for name in ("fp32.onnx", "fp16.onnx"):
        assert calibrated.read(name) == before.read(name)
    assert beside(calibrated.path) == ["tiny.sgmf"]
    card = calibrated.read("card.md").decode()
    assert "| int8-cpu |" in card
    assert ", int8 with fp32 on tiles held out from its calibration. Agreement" in card
    for line in (
        "- ranges of activations by mse from 6 tiles of 3 scans, seed 0",
        "- judged on 2 tiles of 1 scans, which",
        "every label has a Dice of at least 0.9 with fp32",
        " layers compute in int8, ",
        "(0 of them since int8 harms there)",
        "- int8-cpu: not compared with label maps",
    ):
        assert line in card


def test_int8_variants_run_and_are_near_fp32(calibrated: Package) -> None:
    tile = np.random.default_rng(0).normal(size=(1, 1, *calibrated.manifest.tiling.tile))
    tile = tile.astype(np.float32)
    expected = open_session(calibrated, backend="onnxruntime", variant="fp32").run(tile)
    for flavour in FLAVOURS:
        session = open_session(calibrated, backend="onnxruntime", variant=flavour.variant)
        error = np.abs(session.run(tile) - expected).max() / np.ptp(expected)
        assert 1e-4 < error < 0.2


def test_the_manifest_says_what_was_done_on_what(calibrated: Package, scans: Path) -> None:
    record = calibrated.manifest.calibration
    assert record is not None
    assert record["range_method"] == "mse"
    assert record["seed"] == 0
    taken = [*record["calibration"]["scans"], *record["held_out"]["scans"]]
    found = sorted(digest for scan in taken for digest in scan["sha256"])
    assert found == sorted(map(sha256_of, scans.iterdir()))
    assert record["refused"] == 0
    written = (calibrated.path / "manifest.json").read_text() + calibrated.read("card.md").decode()
    assert "case" not in written
    assert str(scans) not in written
    assert record["gate"] == {"least_dice": 0.9, "largest_loss": 0.005}
    for flavour in FLAVOURS:
        variant = calibrated.manifest.variants[flavour.variant]
        reasons = record["variants"][flavour.variant]["float32"]
        assert not reasons.keys() & set(record["variants"][flavour.variant]["layers"])
        assert "the last projection" in reasons.values()
        layers = record["variants"][flavour.variant]["layers"]
        assert layers
        assert all(variant.precision[name] == "int8" for name in layers)
        assert variant.parity["reference"] == "fp32 on held-out tiles"
        assert variant.parity["tiles"] == record["held_out"]["tiles"]


def test_both_graphs_follow_from_the_scales_in_the_manifest(calibrated: Package) -> None:
    record = calibrated.manifest.calibration
    assert record is not None
    model = onnx.load_from_string(calibrated.read("fp32.onnx"))
    separate_layers(model)
    layers = {layer.name: layer for layer in find_layers(model)}
    for flavour in FLAVOURS:
        names = record["variants"][flavour.variant]
        chosen, held = ([layers[n] for n in names[k]] for k in ("layers", "weights_only"))
        again = place(model, chosen, record["scales"], flavour, weights_only=held)
        assert again.SerializeToString(deterministic=True) == calibrated.read(flavour.file)


def test_depthwise_convolutions_are_int8_on_cpus_alone(calibrated: Package) -> None:
    model = onnx.load_from_string(calibrated.read("fp32.onnx"))
    depthwise = {layer.name for layer in find_layers(model) if layer.kind == "depthwise"}
    variants = calibrated.manifest.variants
    assert depthwise <= variants[CPU.variant].precision.keys()
    int8 = {name for name, kind in variants[TENSORRT.variant].precision.items() if kind == "int8"}
    assert not depthwise & int8


def test_the_tensorrt_flavour_becomes_an_engine_without_a_gpu(calibrated: Package) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    from segmaformer.export.engines.rtx_engine import build_package_engine

    logs: list[str] = []
    engine = build_package_engine(calibrated, TENSORRT.variant, "sm86", keep_log=logs.append)
    assert engine.target == "sm86"
    assert len(engine.content) > 100_000
    assert "ERROR" not in logs[0]


def test_a_calibrated_package_is_refused_and_replaced_where_asked_for(
    calibrated: Package, scans: Path, tmp_path: Path
) -> None:
    path = copy_package(calibrated.path, tmp_path)
    sign_package(path, SigningKey("maker"))
    before = content(path)
    with pytest.raises(FileExistsError, match=r"holds int8, int8-cpu; give --overwrite"):
        calibrate(path, scans, OPTIONS)
    assert content(path) == before
    options = CalibrationOptions(
        tiles=TileOptions(tiles=5, seed=1), gate=Gate(0.9), method="minmax", overwrite=True
    )
    told: list[str] = []
    again = calibrate(path, scans, options, report=told.append)
    assert f"{path} is no longer signed, since it changed: sign it again with sgmf sign" in told
    assert not (path / "manifest.sig").exists()
    assert list(again.manifest.variants) == list(calibrated.manifest.variants)
    assert again.manifest.calibration is not None
    assert again.manifest.calibration["range_method"] == "minmax"
    assert again.read("int8.onnx") != calibrated.read("int8.onnx")


def test_a_shortfall_writes_nothing(
    original: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten_search(monkeypatch)
    before = content(original)
    options = CalibrationOptions(tiles=TileOptions(tiles=5), gate=Gate(1.01))
    with pytest.raises(ParityError, match=r"int8 does not match fp32 .* expected at least 1\.01"):
        calibrate(original, scans, options)
    assert content(original) == before
    assert len(Package.open(original).manifest.variants) == 2


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["measure", "Judge", "best_placement", "write_variants"])
def test_an_interrupt_leaves_the_package_as_it_was(
    original: Path, scans: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = content(original)
    monkeypatch.setattr(module, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate(original, scans, OPTIONS)
    assert content(original) == before
    assert [name for name in beside(original) if name.endswith(".sgmf")] == ["tiny.sgmf"]


def test_an_interrupted_count_goes_on_and_gives_the_same(
    original: Path,
    scans: Path,
    calibrated: Package,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(partial_state, "SAVE_SECONDS", 0.0)
    add: Callable[[Histogram, np.ndarray], None] = Histogram.add
    calls = iter(range(10_000))
    with monkeypatch.context() as patch:
        patch.setattr(Histogram, "add", lambda *a: add(*a) if next(calls) < 150 else interrupt())
        with pytest.raises(KeyboardInterrupt):
            calibrate(original, scans, OPTIONS)
    assert beside(original) == [".tiny.sgmf.calibration.npz", "tiny.sgmf"]
    lines: list[str] = []
    found = calibrate(original, scans, OPTIONS, report=lines.append)
    assert any(line.startswith("continuing after ") for line in lines)
    assert beside(original) == ["tiny.sgmf"]
    assert found.read("int8.onnx") == calibrated.read("int8.onnx")


def test_scans_that_do_not_suit_leave_the_package_as_it_was(
    original: Path, scans: Path, tmp_path: Path
) -> None:
    before = content(original)
    (tmp_path / "one").mkdir()
    shutil.copy(scans / "case0.nii.gz", tmp_path / "one")
    with pytest.raises(InputError, match="expected at least 3"):
        calibrate(original, tmp_path / "one", OPTIONS)
    assert content(original) == before


def test_a_package_with_other_files_is_refused_before_any_work(
    original: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (original / "notes.txt").write_text("mine")
    monkeypatch.setattr(module, "measure", lambda *_, **__: pytest.fail("measured in vain"))
    with pytest.raises(FileExistsError, match=r"also holds notes\.txt"):
        calibrate(original, scans, OPTIONS)


def test_a_package_that_a_killed_run_moved_aside_is_calibrated(
    original: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(original)
    move_aside = (
        "import sys; from pathlib import Path\n"
        "from segmaformer.runtime.package import writer\n"
        "from segmaformer.runtime.system import unfinished\n"
        "package = Path(sys.argv[1])\n"
        "package.rename(unfinished.name_beside(package, writer._aside_prefix(package)))"
    )
    command = [sys.executable, "-c", move_aside, str(original)]
    subprocess.run(command, check=True, cwd=original.parent)
    assert not original.exists()
    monkeypatch.setattr(module, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate(original, scans, OPTIONS)
    assert content(original) == before


def test_what_is_no_package_is_refused(tmp_path: Path, scans: Path) -> None:
    with pytest.raises(PackageError, match="is no package"):
        calibrate(tmp_path, scans)
