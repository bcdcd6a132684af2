from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.networks.networks import TINY_TILE
from support.packages.samples import head_like, write_scan

pytest.importorskip("onnx")

from segmaformer.calibration.prepared_scan import prepare_scan
from segmaformer.calibration.tile_set import CalibrationTiles, TileSet
from segmaformer.calibration.tiles import TileOptions, collect_tiles
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline import scan_image
from segmaformer.runtime.pipeline.preprocessing import Preprocessed, preprocess
from segmaformer.runtime.pipeline.tiling import pad_to_tile
from segmaformer.runtime.scans.channels import ScanCase
from segmaformer.runtime.scans.formats import read_scan

SHAPES = [(40, 44, 38), (52, 34, 30), (30, 34, 28), (34, 60, 33), (36, 36, 36), (50, 50, 34)]


@pytest.fixture(scope="module")
def package(tiny_package_path: Path) -> Package:
    return Package.open(tiny_package_path)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six scans. Copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("scans")
    for index, shape in enumerate(SHAPES):
        write_scan(folder / f"case{index}.nii.gz", head_like(shape, seed=index))
    return folder


@pytest.fixture(scope="module")
def collected(package: Package, scans: Path) -> CalibrationTiles:
    return collect_tiles(package, scans, TileOptions(tiles=12))


def one(folder: Path, scans: Path, *indices: int) -> Path:
    """Make a folder of some of the scans."""
    folder.mkdir()
    for index in indices:
        shutil.copy(scans / f"case{index}.nii.gz", folder)
    return folder


def names(tiles: TileSet) -> list[str]:
    return [scan.case.name for scan in tiles.scans]


def test_scans_are_either_calibrated_on_or_held_out(collected: CalibrationTiles) -> None:
    calibration, held_out = names(collected.calibration), names(collected.held_out)
    assert (len(calibration), len(held_out)) == (4, 2)
    assert sorted(calibration + held_out) == [f"case{index}" for index in range(6)]
    assert collected.notes == ()
    assert collected.refused == {}


def test_tiles_are_what_inference_sees(
    package: Package, scans: Path, collected: CalibrationTiles
) -> None:
    manifest = package.manifest
    for tile_set in (collected.calibration, collected.held_out):
        assert tile_set.tiles.dtype == np.float32
        tiles = iter(tile_set.tiles)
        for scan in tile_set.scans:
            volume = read_scan([scans / f"{scan.case.name}.nii.gz"])
            image, _ = pad_to_tile(
                preprocess(volume, manifest.preprocessing).image, manifest.tiling.tile
            )
            for d, h, w in scan.origins:
                expected = image[
                    :, d : d + TINY_TILE[0], h : h + TINY_TILE[1], w : w + TINY_TILE[2]
                ]
                np.testing.assert_array_equal(next(tiles), expected)
        assert next(tiles, None) is None


def test_foreground_and_background_are_covered(collected: CalibrationTiles) -> None:
    voxels = collected.calibration.voxels
    assert voxels[0] > 0
    assert voxels[1:].sum() > 0
    assert voxels.sum() == collected.calibration.tiles.size


def test_the_record_says_which_scans_and_tiles(scans: Path, collected: CalibrationTiles) -> None:
    record = collected.record(names=True)
    assert record["seed"] == 0
    for part in ("calibration", "held_out"):
        assert record[part]["tiles"] == sum(len(scan["tiles"]) for scan in record[part]["scans"])
        for scan in record[part]["scans"]:
            ((name,), (digest,)) = scan["files"], scan["sha256"]
            assert digest == hashlib.sha256((scans / name).read_bytes()).hexdigest()
            assert name == f"{scan['name']}.nii.gz"
    assert "case" not in json.dumps(collected.record())


def test_the_seed_decides(package: Package, scans: Path, collected: CalibrationTiles) -> None:
    again = collect_tiles(package, scans, TileOptions(tiles=12))
    assert again.record() == collected.record()
    np.testing.assert_array_equal(again.calibration.tiles, collected.calibration.tiles)
    other = collect_tiles(package, scans, TileOptions(tiles=12, seed=3))
    assert names(other.held_out) != names(collected.held_out)


def test_counts_are_limits(package: Package, scans: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = collect_tiles(
        package,
        scans,
        TileOptions(scans=2, held_out=1, tiles=3),
        progress=lambda *step: steps.append(step),
    )
    assert (len(found.calibration.tiles), len(found.held_out.tiles)) == (2, 1)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_label_maps_tell_the_foreground(package: Package, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for path in scans.iterdir():
        image = nibabel.load(path)
        labels = np.zeros(image.shape, np.uint8)
        labels[:10, :10, :10] = 2
        nibabel.save(nibabel.Nifti1Image(labels, image.affine), tmp_path / "labels" / path.name)
    options = TileOptions(tiles=12, labels=tmp_path / "labels")
    found = collect_tiles(package, scans, options)
    for scan in found.calibration.scans:
        assert scan.voxels[:, 2].max() >= 1000


def test_label_maps_are_kept_to_judge_by(package: Package, scans: Path, tmp_path: Path) -> None:
    marks = np.zeros(SHAPES[0], np.uint8)
    marks[:8] = 2
    write_scan(tmp_path / "labels" / "case0.nii.gz", marks)
    options = TileOptions(labels=tmp_path / "labels", accept_few=True)
    found = collect_tiles(package, one(tmp_path / "scans", scans, 0, 1), options)
    for part in (found.calibration, found.held_out):
        assert part.truth is not None
        assert part.truth.shape == (len(part.tiles), *TINY_TILE)
        (scan,) = part.scans
        expected = {0, 2} if scan.case.name == "case0" else {-1}
        assert set(np.unique(part.truth).tolist()) <= expected
        assert scan.case.name != "case0" or (part.truth == 2).any()


def test_a_label_map_goes_where_its_scan_goes(package: Package, tmp_path: Path) -> None:
    """The image is its own label map: both end at the same voxels."""
    voxels = np.random.default_rng(0).integers(1, 3, (40, 36, 34)).astype(np.float32)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    scan = write_scan(tmp_path / "scan.nii.gz", voxels, affine)
    (tmp_path / "labels").mkdir()
    shutil.copy(scan, tmp_path / "labels")
    found = prepare_scan(ScanCase("scan", (scan,)), package.manifest, tmp_path / "labels")
    assert found.labels is not None
    for value in (1, 2):
        assert np.unique(found.image[0][found.labels == value]).size == 1


def test_a_label_map_is_straightened_with_its_series(package: Package, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from support.scans.dicom_files import Series

    voxels = np.random.default_rng(0).integers(1, 3, (40, 36, 34)).astype("u2")
    # Shifted by one row from image to image, so that no intensity is interpolated.
    series = Series(voxels, spacing_mm=(1, 1), step_mm=(0, 1, 2))
    case = ScanCase("scan", (series.write(tmp_path / "scan"),))
    write_scan(tmp_path / "labels/scan.nii.gz", voxels, series.affine)
    spec = dataclasses.replace(package.manifest.preprocessing, spacing=None)
    manifest = dataclasses.replace(package.manifest, preprocessing=spec)
    found = prepare_scan(case, manifest, tmp_path / "labels")
    assert found.labels is not None
    assert np.count_nonzero(found.labels) == voxels.size
    for value in (1, 2):
        assert np.unique(found.image[0][found.labels == value]).size == 1


def test_a_label_map_may_be_empty(package: Package, scans: Path, tmp_path: Path) -> None:
    for path in scans.iterdir():
        shape = nibabel.load(path).shape
        write_scan(tmp_path / "labels" / path.name, np.zeros(shape, np.uint8))
    found = collect_tiles(package, scans, TileOptions(tiles=6, labels=tmp_path / "labels"))
    assert found.refused == {}
    assert found.calibration.truth is not None
    assert not found.calibration.truth.any()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.ones((5, 5, 5), np.float32), "lies on another grid"),
        (np.full(SHAPES[2], 0.5, np.float32), "holds values that are no labels"),
        (np.full(SHAPES[2], -1, np.float32), "holds values that are no labels"),
        (np.full(SHAPES[2], 7, np.float32), "holds the labels 7; the package has 1, 2. Give"),
    ],
)
def test_a_label_map_that_does_not_fit_refuses_its_scan(
    package: Package, scans: Path, tmp_path: Path, labels: np.ndarray, reason: str
) -> None:
    write_scan(tmp_path / "labels" / "case2.nii.gz", labels)
    lines: list[str] = []
    options = TileOptions(tiles=6, labels=tmp_path / "labels")
    found = collect_tiles(package, scans, options, report=lines.append)
    assert reason in found.refused["case2"]
    assert [line.partition(" ")[0] for line in lines] == ["case2"]


def bad_scan(folder: Path, kind: str) -> Path:
    path = folder / "bad.nii.gz"
    if kind == "constant":
        return write_scan(path, np.full((40, 40, 40), 7, np.float32))
    if kind == "damaged":
        path.write_bytes(b"\x1f\x8b not a scan")
        return path
    return write_scan(folder / "bad_0001.nii.gz")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("constant", "every tile is constant"),
        ("damaged", ""),
        ("second channel", "the model expects 0000"),
    ],
)
def test_a_scan_that_does_not_suit_is_named_and_others_go_on(
    package: Package, scans: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    folder = one(tmp_path / "some", scans, 0, 1, 2)
    bad_scan(folder, kind)
    lines: list[str] = []
    found = collect_tiles(package, folder, TileOptions(tiles=4), report=lines.append)
    assert reason in found.refused["bad"]
    assert [line.startswith("bad is not used: ") for line in lines] == [True]
    assert len(names(found.calibration) + names(found.held_out)) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_normalisation_spoils_is_refused(
    package: Package, scans: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def spoiled(*arguments: Any, **options: Any) -> Preprocessed:
        prepared = preprocess(*arguments, **options)
        prepared.image[0, 5, 5, 5] = value
        return prepared

    monkeypatch.setattr(scan_image, "preprocess", spoiled)
    scan = ScanCase("case0", (scans / "case0.nii.gz",))
    with pytest.raises(InputError, match="is NaN or infinite after normalisation"):
        prepare_scan(scan, package.manifest)


def test_a_folder_without_any_scan_that_suits_is_refused(package: Package, tmp_path: Path) -> None:
    bad_scan(tmp_path, "constant")
    with pytest.raises(InputError, match=r"no scan in .* can be used .*bad: every tile"):
        collect_tiles(package, tmp_path)


def test_wrong_channels_are_refused(two_channel_package_path: Path, scans: Path) -> None:
    package = Package.open(two_channel_package_path)
    with pytest.raises(InputError, match=r"no scan in .* can be used .*channels"):
        collect_tiles(package, scans)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_scans_are_refused(
    package: Package, scans: Path, tmp_path: Path, count: int
) -> None:
    folder = one(tmp_path / "few", scans, *range(count))
    with pytest.raises(InputError, match=f"holds {count} usable scan.* expected at least 3"):
        collect_tiles(package, folder)


def test_one_scan_is_divided_where_few_are_accepted(
    package: Package, scans: Path, tmp_path: Path
) -> None:
    folder = one(tmp_path / "one", scans, 5)
    found = collect_tiles(package, folder, TileOptions(accept_few=True))
    (note,) = found.notes
    assert "single scan" in note
    (calibration,), (held_out,) = found.calibration.scans, found.held_out.scans
    assert not set(calibration.origins) & set(held_out.origins)
    assert len(found.calibration.tiles) == len(calibration.origins) > len(held_out.origins) > 0


def test_two_scans_are_one_each_and_say_so(package: Package, scans: Path, tmp_path: Path) -> None:
    folder = one(tmp_path / "two", scans, 0, 1)
    found = collect_tiles(package, folder, TileOptions(accept_few=True))
    assert [len(names(each)) for each in (found.calibration, found.held_out)] == [1, 1]
    assert "single scan" in found.notes[0]


def test_a_single_scan_of_too_few_tiles_is_refused(package: Package, tmp_path: Path) -> None:
    write_scan(tmp_path / "small.nii.gz", head_like((20, 20, 20)))
    with pytest.raises(InputError, match="only scan and has 1 tiles"):
        collect_tiles(package, tmp_path, TileOptions(accept_few=True))


def test_scans_in_which_the_network_finds_nothing_are_refused(
    package: Package, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmaformer.calibration import tiles

    monkeypatch.setattr(
        tiles, "logits_to_labels", lambda logits, output: np.zeros(logits.shape[1:], np.uint8)
    )
    with pytest.raises(InputError, match="finds no label on any tile"):
        collect_tiles(package, scans)


def test_a_folder_that_is_not_there_is_refused(package: Package, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="no folder"):
        collect_tiles(package, tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="no folder"):
        collect_tiles(package, tmp_path, TileOptions(labels=tmp_path / "nowhere"))


@pytest.mark.parametrize("field", ["scans", "held_out", "tiles"])
def test_options_that_ask_for_nothing_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match="has a number below 1"):
        TileOptions(**{field: 0})
