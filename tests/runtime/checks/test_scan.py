from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.samples import sample_manifest

from segmaformer.runtime.checks import intensity as intensity_checks
from segmaformer.runtime.checks.scan import check_scan
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.volume import Volume, orient_to
from segmaformer.runtime.spec import Normalization, Preprocessing, Tiling

SHAPE = (24, 20, 16)
CT = Normalization("ct", mean=40, std=120, lower=-950, upper=1000)


def noise(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(500, 100, shape).astype(np.float32)


def volume(*channels: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    voxels = np.stack(channels or (noise(),)).astype(np.float32)
    return Volume(voxels, np.eye(4) if affine is None else affine)


def spaced(*spacing_mm: float) -> Volume:
    return volume(affine=np.diag([*spacing_mm, 1.0]))


def rotated(degrees: float) -> Volume:
    angle = np.radians(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return volume(affine=affine)


def sheared(degrees: float) -> Volume:
    affine = np.eye(4)
    affine[:3, 2] = (0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees)))
    return volume(affine=affine)


def with_extreme(value: float) -> Volume:
    image = noise()
    image[3, 4, 5] = value
    return volume(image)


def label_map(values: int) -> Volume:
    areas = np.indices(SHAPE).sum(0) // 6 % values
    return volume(areas.astype(np.float32))


def whole_numbers() -> Volume:
    return volume(np.round(noise() / 4))


def manifest(
    *normalization: Normalization, tile: tuple[int, int, int] = (16, 20, 24), **spec: Any
) -> Manifest:
    """Write a package whose tile, depth first, is as large as the scans here."""
    chosen = normalization or (Normalization("zscore"),)
    channels = tuple(f"T{index}" for index in range(1, len(chosen) + 1))
    return sample_manifest(
        preprocessing=Preprocessing(channels, chosen, **spec), tiling=Tiling(tile)
    )


def summary(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in findings]


def expect_one(findings: list[Finding], level: str, words: str) -> None:
    assert [finding.level for finding in findings] == [level], summary(findings)
    assert words in findings[0].what
    assert findings[0].fix.endswith(".")


def test_an_ordinary_scan_gives_no_finding() -> None:
    assert check_scan(volume()) == []
    assert check_scan(volume(), manifest()) == []


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (spaced(0.09, 0.3, 0.3), "expected edges from 0.1 to 10 mm"),
        (spaced(5, 5, 11), "expected edges from 0.1 to 10 mm"),
        (spaced(0.5, 0.5, 4.1), "8.2 times as long along one axis"),
        (volume(noise(shape=(24, 20, 1))), "a single slice"),
        (rotated(17), "tilted by up to 17 degrees"),
        (sheared(3), "3 degrees away from right angles"),
        (volume(np.where(noise() > 500, 7, 0)), "practically one intensity, 7"),
        (label_map(5), "4 different whole numbers"),
        (label_map(2), "practically one intensity, 1"),
        (with_extreme(1e6), "single voxels decide"),
        (with_extreme(-1e6), "single voxels decide"),
        (volume(noise(), noise(1), noise()), "channels 1 and 3 are identical"),
    ],
)
def test_oddities_of_the_scan_itself(scan: Volume, words: str) -> None:
    expect_one(check_scan(scan), "warn", words)


@pytest.mark.parametrize(
    "scan",
    [
        spaced(0.11, 0.5, 0.5),
        spaced(3, 3, 10),
        spaced(0.5, 0.5, 3.9),
        rotated(14),
        rotated(90 + 14),
        sheared(0.5),
        whole_numbers(),
        volume(np.round(noise() / 100)),
        with_extreme(1e5),
        volume(noise(), noise(1)),
    ],
)
def test_what_scanners_produce_is_no_oddity(scan: Volume) -> None:
    assert check_scan(scan) == []


@settings(max_examples=25)
@given(st.floats(0, 14.5), st.tuples(*[st.floats(-1, 1)] * 3))
def test_small_rotations_about_any_axis_are_accepted(
    degrees: float, axis: tuple[float, ...]
) -> None:
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    direction = np.array(axis) / max(np.linalg.norm(axis), 1e-6)
    affine[:3, :3] = Rotation.from_rotvec(direction * np.radians(degrees)).as_matrix()
    assert check_scan(volume(affine=affine)) == []


@pytest.mark.parametrize("codes", ["LPS", "SAR", "AIL"])
def test_findings_do_not_depend_on_the_order_of_storage(codes: str) -> None:
    scan = Volume(with_extreme(1e6).voxels, rotated(20).affine @ np.diag([0.4, 4, 0.4, 1]))
    turn = orient_to(scan.affine, codes)
    turned = Volume(turn.apply(scan.voxels), turn.apply_to_affine(scan.affine, scan.shape))
    assert len(check_scan(scan)) == 3
    assert [finding.fix for finding in check_scan(turned)] == [
        finding.fix for finding in check_scan(scan)
    ]


def save(path: Path, change: Callable[[Any], None]) -> Path:
    """Write a scan and then its header again, which nibabel would change."""
    image = nibabel.Nifti1Image(noise(), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nibabel.save(image, path)
    header: Any = nibabel.load(path).header
    header["vox_offset"] = header.single_vox_offset
    change(header)
    with path.open("r+b") as stream:
        stream.write(header.binaryblock)
    return path


def no_codes(header: Any) -> None:
    header["sform_code"] = header["qform_code"] = 0


def moved_qform(header: Any) -> None:
    header["qoffset_y"] += 3.0


def slightly_moved_qform(header: Any) -> None:
    header["qoffset_y"] += 0.05


def invalid_qform(header: Any) -> None:
    header["quatern_b"], header["quatern_c"] = 1.0, 1.0


def no_spacing(header: Any) -> None:
    header["pixdim"][1] = 0


def only_sform(header: Any) -> None:
    header["qform_code"], header["qoffset_y"] = 0, 100.0


def other_pixdim(header: Any) -> None:
    header["qform_code"], header["pixdim"][1:4] = 0, (1, 1, 1)


def flipped_sform(header: Any) -> None:
    header["qform_code"], header["srow_x"][0] = 0, -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_codes, "are both 0"),
        (moved_qform, "lie up to 3 voxels apart"),
        (invalid_qform, "sform and qform"),
        (other_pixdim, "edges of 1 x 1 x 1 mm, and its affine has 1 x 2 x 3 mm; which of"),
    ],
)
def test_transforms_of_a_header(tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    expect_one(check_scan(save(tmp_path / "scan.nii", change)), "warn", words)


@pytest.mark.parametrize("change", [only_sform, slightly_moved_qform, flipped_sform])
def test_transforms_that_are_clear(tmp_path: Path, change: Callable[[Any], None]) -> None:
    assert check_scan([save(tmp_path / "scan.nii", change)]) == []


def broken(folder: Path, kind: str) -> list[Path]:
    path = folder / "scan.nii.gz"
    voxels = noise()
    if kind == "not finite":
        voxels[1, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    if kind == "no scan":
        path.write_text("hello")
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    return [path, path] if kind == "channels" else [path]


@pytest.mark.parametrize("kind", ["not finite", "no scan", "cut off", "channels"])
def test_what_reading_refuses_is_the_only_finding(tmp_path: Path, kind: str) -> None:
    files = broken(tmp_path, kind)
    with pytest.raises(InputError) as caught:
        read_scan(files, channels=1)
    expect_one(check_scan(files, manifest()), "refuse", str(caught.value))


def test_impossible_geometry_is_refused_with_its_own_remedy(tmp_path: Path) -> None:
    (finding,) = check_scan(save(tmp_path / "scan.nii", no_spacing))
    assert finding.level == "refuse"
    assert "geometry" in finding.fix


def test_a_missing_file_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_scan(tmp_path / "none.nii")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_volumes_that_are_not_finite_are_refused(value: float) -> None:
    expect_one(check_scan(with_extreme(value)), "refuse", "NaN or infinite")


def test_volumes_of_zeros_are_refused() -> None:
    expect_one(check_scan(volume(np.zeros(SHAPE))), "refuse", "every voxel is zero")


def test_volumes_with_other_channels_are_refused() -> None:
    two = manifest(Normalization("zscore"), Normalization("zscore"))
    findings = check_scan(volume(), two)
    expect_one(findings, "refuse", "has 1 channels; the model expects 2")
    assert "T1, T2" in findings[0].fix


def test_colours_outside_their_range_are_refused() -> None:
    findings = check_scan(volume(noise()), manifest(Normalization("rgb01")))
    expect_one(findings, "refuse", "expects colour channels from 0 to 255")
    assert check_scan(volume(noise() / 4), manifest(Normalization("rgb01"))) == []


@pytest.mark.parametrize(
    ("image", "normalization", "words"),
    [
        (noise(), CT, "0 % of the scan are below zero"),
        (noise() / 1000, CT, "0 % of the scan are below zero"),
        (noise() + 3000, replace(CT, lower=-50.0), "hardly any contrast"),
        (noise() / 1e4 - 0.05, CT, "hardly any contrast"),
        (0.1 * noise() - 60, CT, "hardly any contrast"),
    ],
)
def test_intensities_that_are_no_hounsfield_units(
    image: np.ndarray, normalization: Normalization, words: str
) -> None:
    expect_one(check_scan(volume(image), manifest(normalization)), "warn", words)


def test_hounsfield_units_are_recognised() -> None:
    body = np.where(noise(1) > 480, noise() - 500, -1000)
    assert check_scan(volume(body), manifest(CT)) == []
    assert check_scan(volume(0.3 * noise() - 150), manifest(CT)) == []


@pytest.mark.parametrize("padding", [-1, -1024, -3000])
def test_a_few_negative_voxels_make_no_hounsfield_units(padding: float) -> None:
    stored = noise() + 1
    stored[0, 0, 0] = padding
    (finding,) = check_scan(volume(stored), manifest(CT))
    assert "are below zero" in finding.what
    stored[:2] = padding  # a border outside the field of view
    (finding,) = check_scan(volume(stored), manifest(CT))
    assert "are below zero" in finding.what


def test_remarks_of_reading_are_findings_and_nan_may_be_replaced(tmp_path: Path) -> None:
    voxels = noise()
    voxels[1, 2, 3] = np.nan
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)), path)
    for scan in (path, volume(voxels)):
        findings = check_scan(scan, nan_to=5)
        assert any("1 of" in each.what and "set to 5" in each.what for each in findings)
        assert {each.level for each in findings} == {"warn"}


@pytest.mark.parametrize(
    ("tile", "level", "words"),
    [
        ((16, 20, 25), "note", "padded with zeros"),
        ((16, 20, 49), "warn", "most of the network's input is padding"),
        ((3, 4, 6), "warn", "sees 1/107 of it at once"),
    ],
)
def test_scans_smaller_or_larger_than_the_tile(
    tile: tuple[int, int, int], level: str, words: str
) -> None:
    expect_one(check_scan(volume(), manifest(tile=tile)), level, words)


@pytest.mark.parametrize("scheme", ["nnunet", "monai"])
def test_very_many_tiles(scheme: Any) -> None:
    package = replace(manifest(), tiling=Tiling((2, 2, 2), scheme=scheme))
    words = [finding.what for finding in check_scan(volume(), package)]
    assert any("takes 6555 tiles, more than 2000" in what for what in words), words


def test_notes_on_what_will_be_done() -> None:
    image = noise()
    image[12:] = 0
    package = manifest(tile=(8, 20, 12), spacing=(2.0, 1.0, 1.0), orientation="LPS")
    findings = check_scan(volume(image), package)
    assert {finding.level for finding in findings} == {"note"}
    reordered, resampled, cropped = (finding.what for finding in findings)
    assert "run towards RAS; the model takes LPS" in reordered
    assert "the model's 2 x 1 x 1 mm: 0.5 times as many voxels" in resampled
    assert cropped.startswith("50 % of the scan are left")


def test_the_crop_decides_what_is_compared_with_the_tile() -> None:
    image = noise()
    image[:, :, :12] = 0
    (crop, size) = sorted(check_scan(volume(image), manifest()), key=lambda f: f.level)
    assert crop.what.startswith("25 %")
    assert "4 x 20 x 24 voxels on the model's grid" in size.what
    assert check_scan(volume(image), manifest(crop_to_nonzero=False)) == []


def test_transposed_networks_count_their_own_axes() -> None:
    package = manifest(tile=(24, 20, 16), transpose_forward=(2, 1, 0))
    assert check_scan(volume(), package) == []


def test_the_gravest_comes_first() -> None:
    scan = volume(noise() / 4, affine=np.diag([0.3, 0.3, 3.0, 1.0]))
    package = manifest(Normalization("rgb01"), orientation="LPS")
    assert [finding.level for finding in check_scan(scan, package)] == ["warn", "note"]
    refused = check_scan(volume(noise(), affine=scan.affine), package)
    assert [finding.level for finding in refused] == ["refuse", "warn", "note"]


def test_large_scans_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    percentile = np.percentile

    def counting(values: np.ndarray, *arguments: Any) -> Any:
        counted.append(values.size)
        return percentile(values, *arguments)

    monkeypatch.setattr(intensity_checks.np, "percentile", counting)
    check_scan(volume(noise(shape=(300, 300, 100))))
    assert max(counted) < 3_000_000


def images(data_dir: Path) -> list[Path]:
    return [
        *sorted((data_dir / "msd_hippocampus/imagesTr").glob("*.nii.gz"))[::10],
        data_dir / "msd_spleen_crop/sub-spleen2_ct.nii.gz",
        data_dir / "totalsegmentator/example_ct.nii.gz",
        data_dir / "totalsegmentator/example_ct_sm.nii.gz",
    ]


def test_real_scans_give_neither_refusals_nor_warnings(data_dir: Path) -> None:
    found = {path.name: check_scan(path) for path in images(data_dir)}
    assert {name: findings for name, findings in found.items() if findings} == {}


def test_real_ct_suits_a_ct_package(data_dir: Path) -> None:
    for path in images(data_dir)[-3:]:
        package = manifest(CT, tile=(32, 64, 64))
        assert all(finding.level == "note" for finding in check_scan(path, package))


def test_real_mr_does_not_suit_a_ct_package(data_dir: Path) -> None:
    findings = check_scan(images(data_dir)[0], manifest(CT))
    assert any("Hounsfield" in finding.what for finding in findings)


def test_real_label_maps_are_told_from_images(data_dir: Path) -> None:
    maps = [
        *sorted((data_dir / "msd_hippocampus/labelsTr").glob("*.nii.gz"))[::10],
        data_dir / "msd_spleen_crop/sub-spleen2_ct_seg-manual.nii.gz",
        data_dir / "totalsegmentator/example_seg.nii.gz",
    ]
    for path in maps:
        words = [finding.what for finding in check_scan(path)]
        assert any("label map" in what or "one intensity" in what for what in words), path
