"""Labels through the C functions are those of Python, voxel for voxel."""

from __future__ import annotations

import ctypes
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native.libsgmf import Entry, Handle, Info, Region, Statistics, labels_of, volume_of
from support.packages.samples import copy_package, edit_manifest, head_like
from support.packages.small_packages import write_package

from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Resampling

SHAPE = (37, 30, 41)
OBLIQUE = np.array(
    [[-0.9, 0.1, 0.2, 12], [0.15, 1.1, -0.3, -40], [0.1, 0.35, 1.4, 7], [0, 0, 0, 1]]
)


@pytest.fixture(params=["tiny_package_path", "ct_package", "region_package", "cascade_package"])
def package(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def scan(channels: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.stack([head_like(shape, seed) for seed in range(channels)])


def by_python(package: Path, voxels: np.ndarray, affine: np.ndarray, **options: Any) -> np.ndarray:
    predictor = Predictor(
        Package.open(package), "onnxruntime", options=BackendOptions(threads=1), **options
    )
    labels: np.ndarray = predictor.predict(Volume(voxels.astype(np.float32), affine)).labels
    return labels


def by_c(handle: Handle, voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    info = handle.get("info", Info())
    labels = np.full(voxels.shape[1:], 99, [np.uint8, np.uint16][info.label_type - 1], order="F")
    assert handle.run(volume_of(voxels, affine), labels_of(labels)) == "SGMF_OK", handle.message
    return labels


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE], ids=["straight", "oblique"])
def test_labels_are_those_of_python(package: Path, affine: np.ndarray) -> None:
    channels = len(Package.open(package).manifest.preprocessing.channels)
    voxels = scan(channels)
    expected = by_python(package, voxels, affine)
    with Handle(package) as handle:
        found = by_c(handle, voxels, affine)
        again = by_c(handle, voxels, affine)
    assert len(np.unique(expected)) > 2
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(again, expected)


FIRST = Resampling(1, 1, separate_z=False, alignment="first_voxels")
AREA = Resampling(0, 0, separate_z=False, method="area")
ENDS = Resampling(1, 1, separate_z=False, method="torch", alignment="end_voxels")


@pytest.mark.parametrize(
    ("grid", "ways"),
    [
        ({"spacing": (1.3, 0.8, 1.1)}, (FIRST, FIRST)),
        ({"shape": (30, 44, 25)}, (AREA, AREA)),
        ({"shape": (50, 40, 45)}, (ENDS, AREA)),
    ],
)
def test_grids_of_monai_are_those_of_python(
    grid: dict[str, Any], ways: tuple[Resampling, Resampling], tmp_path: Path
) -> None:
    """Rounding makes the axes of this oblique scan lean, so that centres coincide."""
    spec = Preprocessing(
        ("T1",), (Normalization("zscore"),), transpose_forward=(2, 1, 0), crop_to_nonzero=False,
        resampling=ways[0], logits_resampling=ways[1], resample_first=True, **grid,
    )  # fmt: skip
    output = Output(tuple(Label(value, f"organ {value}") for value in range(5)))
    output = dataclasses.replace(output, interpolated="probabilities")
    package = write_package(tmp_path / "monai.sgmf", spec, output)
    turned = np.eye(4)
    turned[:3, :3] = np.float32([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
    voxels = scan(1)
    expected = by_python(package, voxels, turned)
    with Handle(package) as handle:
        found = by_c(handle, voxels, turned)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(found, expected)


def test_a_spacing_beside_the_affine_decides_the_grid(tiny_package_path: Path) -> None:
    """Test scans whose spacing the training's reader would not have taken from the affine."""
    voxels, edges = scan(1), (0.5, 0.75, 1.25)
    manifest = Package.open(tiny_package_path).manifest
    expected = by_python(tiny_package_path, voxels, np.diag([*edges, 1.0]))
    assert manifest.preprocessing.spacing is not None
    with Handle(tiny_package_path) as handle:
        info = handle.get("info", Info())
        assert info.reader == (manifest.preprocessing.reader or "").encode()
        found = np.full(SHAPE, 99, expected.dtype, order="F")
        # Signs of the affine, so that the network sees the axes as before.
        volume = volume_of(voxels, np.eye(4), spacing_mm=(ctypes.c_double * 3)(*edges))
        assert handle.run(volume, labels_of(found)) == "SGMF_OK", handle.message
        plain = by_c(handle, voxels, np.eye(4))
        older = volume_of(voxels, np.eye(4), spacing_mm=(ctypes.c_double * 3)(*edges))
        older.struct_size = type(older).spacing_mm.offset
        again = np.full(SHAPE, 99, expected.dtype, order="F")
        assert handle.run(older, labels_of(again)) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(again, plain)
    assert (plain != expected).any()


def test_mirroring_is_that_of_python(ct_package: Path) -> None:
    voxels = scan(1)
    expected = by_python(ct_package, voxels, OBLIQUE, tta=True)
    with Handle(ct_package, mirror=1) as handle:
        np.testing.assert_array_equal(by_c(handle, voxels, OBLIQUE), expected)
    assert (expected != by_python(ct_package, voxels, OBLIQUE)).any()


def test_postprocessing_is_that_of_python(ct_package: Path, tmp_path: Path) -> None:
    package = copy_package(ct_package, tmp_path)
    steps = json.dumps([{"keep_largest": [3, 5]}, {"keep_largest": [1]}])
    edit_manifest(package, '"postprocessing": []', f'"postprocessing": {steps}')
    voxels = scan(1)
    expected, plain = by_python(package, voxels, OBLIQUE), by_python(ct_package, voxels, OBLIQUE)
    with Handle(package) as handle:
        np.testing.assert_array_equal(by_c(handle, voxels, OBLIQUE), expected)
    with Handle(package, without_postprocessing=1) as handle:
        np.testing.assert_array_equal(by_c(handle, voxels, OBLIQUE), plain)
    cleared = expected != plain
    assert cleared.any()
    assert set(np.unique(plain[cleared])) <= {1, 3, 5}
    assert not expected[cleared].any()


def test_another_variant_gives_its_own_labels(tiny_package_path: Path) -> None:
    voxels = scan(1)
    expected = by_python(tiny_package_path, voxels, np.eye(4), variant="fp16")
    with Handle(tiny_package_path, variant=b"fp16") as handle:
        assert b"fp16" in handle.get("info", Info()).backend
        np.testing.assert_array_equal(by_c(handle, voxels, np.eye(4)), expected)


def test_a_budget_changes_memory_and_not_labels(ct_package: Path) -> None:
    voxels = scan(1, (60, 70, 50))
    expected = by_python(ct_package, voxels, OBLIQUE)
    with Handle(ct_package, memory_budget_mib=4) as handle:
        np.testing.assert_array_equal(by_c(handle, voxels, OBLIQUE), expected)
        small = handle.get("statistics", Statistics())
    with Handle(ct_package, memory_budget_mib=500) as handle:
        by_c(handle, voxels, OBLIQUE)
        large = handle.get("statistics", Statistics())
    assert small.peak_bytes <= 4 << 20 < large.peak_bytes
    assert small.tiles >= large.tiles


def test_one_network_of_a_cascade_at_a_time_gives_the_same(cascade_package: Path) -> None:
    """With a budget, each network opens when it is needed, and closes."""
    voxels = scan(1, (120, 100, 80))
    expected = by_python(cascade_package, voxels, OBLIQUE)
    least = ctypes.c_int64()
    with Handle(cascade_package) as handle:
        np.testing.assert_array_equal(by_c(handle, voxels, OBLIQUE), expected)
        labels = np.zeros(voxels.shape[1:], np.uint8, order="F")
        status = handle.call("least_budget", volume_of(voxels, OBLIQUE), labels_of(labels), least)
        assert status == "SGMF_OK", handle.message
    budget_mib = -(-least.value // 2**20)
    with Handle(cascade_package, memory_budget_mib=budget_mib) as handle:
        assert handle.call("warm_up") == "SGMF_OK", handle.message
        for _ in range(2):
            np.testing.assert_array_equal(by_c(handle, voxels, OBLIQUE), expected)
        assert handle.get("statistics", Statistics()).peak_bytes <= budget_mib << 20
    tiles: list[int] = []

    def progress(done: int, count: int) -> int:
        tiles.append(done)
        return 0

    with Handle(cascade_package, memory_budget_mib=budget_mib // 2) as handle:
        status = handle.run(volume_of(voxels, OBLIQUE), labels_of(labels), progress)
    assert status == "SGMF_BUDGET_TOO_SMALL"
    assert not tiles  # of the first network, for which the budget suffices


def test_a_budget_without_room_for_a_tile_is_refused_at_opening(tmp_path: Path) -> None:
    labels = Output(tuple(Label(value, f"organ {value}") for value in range(60)))
    spec = Preprocessing(("T1",), (Normalization("zscore"),))
    handle = Handle(write_package(tmp_path / "wide.sgmf", spec, labels), memory_budget_mib=1)
    assert handle.opened == "SGMF_BUDGET_TOO_SMALL"
    assert "a tile and its logits" in handle.open_message


def test_a_first_network_that_was_exchanged_is_refused(
    cascade_package: Path, tmp_path: Path
) -> None:
    package = copy_package(cascade_package, tmp_path)
    edit_manifest(package / "previous_stage", "organ 2", "organ 3")
    handle = Handle(package)
    assert handle.opened == "SGMF_PACKAGE_REFUSED"
    assert "previous_stage/manifest.json" in handle.open_message


@pytest.mark.parametrize(
    "kind",
    "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float32 float64".split(),  # noqa: SIM905
)
def test_voxels_of_every_type(ct_package: Path, kind: str) -> None:
    voxels = scan(1).astype(kind)
    expected = by_python(ct_package, voxels, np.eye(4))
    with Handle(ct_package) as handle:
        np.testing.assert_array_equal(by_c(handle, voxels, np.eye(4)), expected)


def test_dense_voxels_need_no_strides_and_labels_may_have_gaps(region_package: Path) -> None:
    voxels = scan(2)
    expected = by_python(region_package, voxels, np.eye(4))
    dense = np.ascontiguousarray(voxels.transpose(0, 3, 2, 1))
    volume = volume_of(dense, shape=SHAPE, strides=(0, 0, 0, 0))
    # Rows of labels with a gap behind them, as a renderer's texture might have.
    memory = np.full((SHAPE[2], SHAPE[1], SHAPE[0] + 5), 7777, np.uint16)
    strides = (1, SHAPE[0] + 5, (SHAPE[0] + 5) * SHAPE[1])
    with Handle(region_package) as handle:
        assert handle.run(volume, labels_of(memory, strides=strides)) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(memory[..., : SHAPE[0]].T, expected)
    assert (memory[..., SHAPE[0] :] == 7777).all()


def test_labels_may_be_wider_than_they_need(ct_package: Path) -> None:
    voxels = scan(1)
    wide = np.empty(SHAPE, np.uint16, order="F")
    with Handle(ct_package) as handle:
        assert handle.run(volume_of(voxels), labels_of(wide)) == "SGMF_OK"
    np.testing.assert_array_equal(wide, by_python(ct_package, voxels, np.eye(4)))


def test_what_a_package_says_of_itself(region_package: Path, ct_package: Path) -> None:
    with Handle(region_package, threads=2) as handle:
        info = handle.get("info", Info())
        assert (info.inputs, info.labels, info.regions, info.label_type) == (2, 4, 3, 2)
        assert (info.threads, [*info.tile], [*info.spacing_mm]) == (2, [16, 20, 24], [0, 0, 0])
        assert (info.name, info.network, info.variant) == (b"sample", b"segmaformer", b"fp32")
        assert info.format_version == b"1.0"
        inputs = [handle.get("input", Entry(), index) for index in range(2)]
        assert [(entry.name, entry.number) for entry in inputs] == [(b"T1", 0), (b"FLAIR", 0)]
        labels = [handle.get("label", Entry(), index) for index in range(4)]
        assert [entry.number for entry in labels] == [0, 1, 2, 300]
        assert labels[3].name == b"rim"
        region = handle.get("region", Region(), 1)
        assert (region.name, region.number) == (b"core", 2)
        assert region.labels[: region.label_count] == [2, 300]
        assert handle.call("get_label", 4, Entry()) == "SGMF_INVALID_ARGUMENT"
        assert handle.message == "there is no label 4; the model has 4"
    with Handle(ct_package) as handle:
        info = handle.get("info", Info())
        assert [*info.spacing_mm] == [1.5, 1.2, 1.3]
        assert info.memory_budget_bytes > 1 << 20
        assert handle.get("input", Entry(), 0).number == 1


def test_statistics_are_those_of_the_last_run(ct_package: Path) -> None:
    with Handle(ct_package) as handle:
        before = handle.get("statistics", Statistics())
        assert before.open_seconds > 0
        assert (before.warm_up_seconds, before.total_seconds, before.tiles) == (0, 0, 0)
        assert handle.call("warm_up") == "SGMF_OK"
        by_c(handle, scan(1), np.eye(4))
        after = handle.get("statistics", Statistics())
    assert after.warm_up_seconds > 0
    parts = after.preprocess_seconds + after.network_seconds + after.labels_seconds
    assert parts == pytest.approx(after.total_seconds)
    assert after.tiles > 0
    assert after.peak_bytes > scan(1).nbytes
