from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.packages.samples import copy_package, edit_manifest, head_like, write_scan

from segmaformer.runtime import Package, Predictor, Segmentation, Volume
from segmaformer.runtime.backends import BackendOptions, NetworkKind
from segmaformer.runtime.errors import BackendError, BudgetError, CancelledError, InputError

AFFINE = np.array(
    [[1.25, 0, 0, -20], [0, 0.9, 0, -31], [0, 0, 1.5, 7], [0, 0, 0, 1]], dtype=np.float64
)
ONE_THREAD = BackendOptions(threads=1)


@pytest.fixture(scope="module")
def predictor(tiny_package_path: Path) -> Predictor:
    return Predictor(Package.open(tiny_package_path), options=ONE_THREAD)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(head_like((30, 40, 26))[None], AFFINE)


@pytest.fixture(scope="module")
def segmentation(predictor: Predictor, volume: Volume) -> Segmentation:
    return predictor.predict(volume)


def test_the_label_map_lies_on_the_scans_grid(segmentation: Segmentation, volume: Volume) -> None:
    assert segmentation.labels.shape == volume.shape
    assert segmentation.labels.dtype == np.uint8
    assert segmentation.volume is volume
    assert set(np.unique(segmentation.labels)) == {0, 1, 2}
    assert list(segmentation.seconds)[:2] == ["read", "preprocess"]
    assert min(segmentation.seconds.values()) >= 0


def test_auto_names_what_it_chose(predictor: Predictor, segmentation: Segmentation) -> None:
    assert predictor.backend.startswith(("ONNX Runtime ", "OpenVINO "))
    assert segmentation.backend == predictor.backend


def test_files_and_volumes_give_the_same(
    predictor: Predictor, volume: Volume, segmentation: Segmentation, tmp_path: Path
) -> None:
    path = write_scan(tmp_path / "scan.nii.gz", volume.voxels[0], AFFINE)
    for scan in (path, str(path), [path], (str(path),)):
        np.testing.assert_array_equal(predictor.predict(scan).labels, segmentation.labels)


def reordered(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """Return the same scan, stored along other axes and in other directions."""
    voxels = volume.voxels.transpose(0, *(1 + axis for axis in axes))
    to_stored = np.zeros((4, 4))
    to_stored[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        to_stored[old, new] = -1 if flip else 1
        to_stored[old, 3] = volume.shape[old] - 1 if flip else 0
    voxels = voxels[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
    return Volume(np.ascontiguousarray(voxels), volume.affine @ to_stored)


@pytest.mark.parametrize(
    ("axes", "flips"),
    [
        ((0, 1, 2), (True, False, False)),
        ((0, 1, 2), (True, True, True)),
        ((2, 1, 0), (False, False, False)),
        ((1, 2, 0), (False, True, False)),
        ((2, 0, 1), (True, False, True)),
    ],
)
def test_the_order_of_storage_does_not_change_the_segmentation_in_space(
    predictor: Predictor,
    volume: Volume,
    segmentation: Segmentation,
    axes: tuple[int, ...],
    flips: tuple[bool, ...],
) -> None:
    stored = reordered(volume, axes, flips)
    found = predictor.predict(stored).labels
    assert found.shape == stored.shape
    expected = reordered(Volume(segmentation.labels[None].astype(np.float32), AFFINE), axes, flips)
    np.testing.assert_array_equal(found, expected.voxels[0])


def test_moving_the_scan_moves_nothing_else(
    predictor: Predictor, volume: Volume, segmentation: Segmentation
) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] += (100.5, -3, 12)
    found = predictor.predict(Volume(volume.voxels, affine))
    np.testing.assert_array_equal(found.labels, segmentation.labels)


def test_a_positive_scale_of_intensities_changes_little(
    predictor: Predictor, volume: Volume, segmentation: Segmentation
) -> None:
    found = predictor.predict(Volume(volume.voxels * np.float32(2), AFFINE))
    assert (found.labels == segmentation.labels).mean() > 0.9999


def test_an_empty_border_is_labelled_background_and_changes_nothing_inside(
    predictor: Predictor, volume: Volume, segmentation: Segmentation
) -> None:
    filled = np.where(volume.voxels == 0, np.float32(1), volume.voxels)
    wide = np.pad(filled, ((0, 0), (3, 2), (0, 4), (5, 0)))
    inner, outer = (
        predictor.predict(Volume(filled, AFFINE)),
        predictor.predict(Volume(wide, AFFINE)),
    )
    np.testing.assert_array_equal(outer.labels[3:-2, :-4, 5:], inner.labels)
    assert outer.labels.sum() == inner.labels.sum()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 40, 3), (32, 32, 48), (33, 31, 60)])
def test_any_extent_is_segmented(predictor: Predictor, shape: tuple[int, int, int]) -> None:
    voxels = head_like(shape, seed=1)[None] + np.float32(1)
    found = predictor.predict(Volume(voxels, np.eye(4)))
    assert found.labels.shape == shape
    assert found.labels.max() <= 2


def test_one_tile_gives_the_argmax_of_the_network(predictor: Predictor) -> None:
    depth, height, width = predictor.package.manifest.tiling.tile
    voxels = head_like((width, height, depth)) + np.float32(1)
    standardized = (voxels - voxels.mean(dtype=np.float64)) / voxels.std(dtype=np.float64)
    tile = np.ascontiguousarray(standardized.astype(np.float32).T[None, None])
    logits = predictor.network.session.run(tile)[0]
    found = predictor.predict(Volume(voxels[None], np.eye(4))).labels
    assert (found == logits.argmax(0).T).mean() > 0.9999


def test_mirroring_is_only_done_when_asked_for(
    tiny_package_path: Path, volume: Volume, segmentation: Segmentation
) -> None:
    mirrored = Predictor(Package.open(tiny_package_path), tta=True, options=ONE_THREAD)
    found = mirrored.predict(volume).labels
    assert found.shape == volume.shape
    assert set(np.unique(found)) <= {0, 1, 2}
    assert 0 < (found != segmentation.labels).mean() < 0.5


def test_mirroring_needs_axes_that_the_package_allows(
    tiny_package_path: Path, volume: Volume, segmentation: Segmentation, tmp_path: Path
) -> None:
    path = copy_package(tiny_package_path, tmp_path)
    edit_manifest(path, '"mirror_axes": [\n      2\n    ]', '"mirror_axes": []')
    found = Predictor(Package.open(path), tta=True, options=ONE_THREAD).predict(volume)
    np.testing.assert_array_equal(found.labels, segmentation.labels)


def test_float16_agrees_with_float32(
    tiny_package_path: Path, volume: Volume, segmentation: Segmentation
) -> None:
    half = Predictor(Package.open(tiny_package_path), variant="fp16", options=ONE_THREAD)
    assert "fp16" in half.backend
    assert (half.predict(volume).labels == segmentation.labels).mean() > 0.995


def test_two_channels_are_two_files_in_order(
    two_channel_package_path: Path, tmp_path: Path
) -> None:
    predictor = Predictor(Package.open(two_channel_package_path), options=ONE_THREAD)
    channels = np.stack([head_like((20, 24, 22), seed=seed) for seed in (1, 2)])
    paths = [
        write_scan(tmp_path / f"{index}.nii", channel, AFFINE)
        for index, channel in enumerate(channels)
    ]
    expected = predictor.predict(Volume(channels, AFFINE)).labels
    np.testing.assert_array_equal(predictor.predict(paths).labels, expected)
    assert (predictor.predict(paths[::-1]).labels != expected).any()


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_number_of_channels_is_refused(
    two_channel_package_path: Path, tmp_path: Path, count: int
) -> None:
    predictor = Predictor(Package.open(two_channel_package_path), options=ONE_THREAD)
    voxels = np.stack([head_like((8, 8, 8))] * count)
    with pytest.raises(InputError, match="2"):
        predictor.predict(Volume(voxels, AFFINE))
    with pytest.raises(InputError, match="2 channels"):
        predictor.predict([write_scan(tmp_path / "scan.nii", voxels[0])] * count)


def test_an_empty_scan_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="zero"):
        predictor.predict(Volume(np.zeros((1, 9, 9, 9), np.float32), AFFINE))


def test_a_missing_variant_is_refused(tiny_package_path: Path) -> None:
    with pytest.raises(ValueError, match="no variant 'int8'"):
        Predictor(Package.open(tiny_package_path), variant="int8")


def test_progress_names_the_stage_and_counts_up(predictor: Predictor, volume: Volume) -> None:
    calls: list[tuple[str, int, int]] = []
    predictor.predict(volume, progress=lambda *call: calls.append(call))
    stages, done, counts = zip(*calls, strict=True)
    assert set(stages) == {"tiles"}
    assert list(done) == list(range(counts[0] + 1))
    assert len(set(counts)) == 1


@pytest.mark.usefixtures("every_processor")
def test_threads_may_share_a_predictor(
    predictor: Predictor, volume: Volume, segmentation: Segmentation
) -> None:
    volumes = [volume, reordered(volume, (0, 1, 2), (True, False, False))] * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor.predict, volumes))
    for index, result in enumerate(found):
        labels = result.labels[::-1] if index % 2 else result.labels
        np.testing.assert_array_equal(labels, segmentation.labels)


class StubSession:
    """Logits from a function instead of a network."""

    description = "a stub"
    kind = NetworkKind("onnxruntime", "cpu", "fp32")
    tiles_at_once = 1
    identity = coarse = resident = None

    def __init__(self, logits: Callable[[np.ndarray], np.ndarray], overlap: bool = False):
        self._logits = logits
        self.overlap = overlap

    def run(self, tiles: np.ndarray) -> np.ndarray:
        return self._logits(tiles)


def stubbed(
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    logits: Callable[[np.ndarray], np.ndarray],
    *,
    tta: bool = False,
    overlap: bool = False,
) -> Predictor:
    monkeypatch.setattr(
        "segmaformer.runtime.predictor.open_session", lambda *_, **__: StubSession(logits, overlap)
    )
    return Predictor(Package.open(package), tta=tta)


def random_volume(extent: int, spacing_mm: float) -> Volume:
    voxels = np.random.default_rng(7).uniform(1, 2, (1, extent, extent, extent))
    return Volume(voxels.astype(np.float32), np.diag([spacing_mm, spacing_mm, spacing_mm, 1]))


def threshold(tiles: np.ndarray) -> np.ndarray:
    """Label 1 above the mean intensity, 2 far above it."""
    return np.concatenate([-tiles, tiles, 3 * tiles - 2], axis=1)


@pytest.mark.parametrize("tta", [False, True])
def test_a_network_of_single_voxels_labels_each_voxel_by_its_intensity(
    tiny_package_path: Path, monkeypatch: pytest.MonkeyPatch, tta: bool
) -> None:
    """The whole path against a computation without orientation, tiles or padding."""
    predictor = stubbed(tiny_package_path, monkeypatch, threshold, tta=tta)
    voxels = np.random.default_rng(7).uniform(1, 2, (37, 50, 61)).astype(np.float32)
    z = (voxels.astype(np.float64) - voxels.mean(dtype=np.float64)) / voxels.std(dtype=np.float64)
    expected = np.stack([-z, z, 3 * z - 2]).argmax(0)
    undecided = np.minimum(np.abs(z), np.abs(z - 1)) < 1e-4
    found = predictor.predict(Volume(voxels[None], np.diag([-1.0, 1, -1, 1]))).labels
    assert (found == expected)[~undecided].all()
    assert undecided.mean() < 1e-3


@pytest.mark.parametrize("spacing_mm", [1.0, 1.1], ids=["on the grid", "resampled"])
@pytest.mark.parametrize(
    ("extent", "failing_call", "value"),
    [(20, 0, np.nan), (20, 0, np.inf), (20, 0, -np.inf), (70, 0, np.nan), (70, 5, np.inf)],
)
def test_logits_that_are_no_numbers_never_become_labels(
    tiny_package_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extent: int,
    failing_call: int,
    value: float,
    spacing_mm: float,
) -> None:
    """Test one tile, whose logits become labels without sums, and one of several."""
    calls = itertools.count()

    def fails(tiles: np.ndarray) -> np.ndarray:
        logits = threshold(tiles)
        if next(calls) == failing_call:
            logits[0, 1, 16, 16, 16] = value
        return logits

    volume = random_volume(extent, spacing_mm)
    with pytest.raises(BackendError, match="logits of a tile are NaN or infinite"):
        stubbed(tiny_package_path, monkeypatch, fails).predict(volume)
    assert next(calls) > failing_call


@pytest.mark.parametrize("overlap", [False, True])
def test_cancelling_stops_before_the_next_tile_and_leaves_no_thread(
    tiny_package_path: Path, monkeypatch: pytest.MonkeyPatch, volume: Volume, overlap: bool
) -> None:
    cancel, runs = threading.Event(), itertools.count(1)

    def cancelled_meanwhile(tiles: np.ndarray) -> np.ndarray:
        if next(runs) == 2:
            cancel.set()
        return threshold(tiles)

    predictor = stubbed(tiny_package_path, monkeypatch, cancelled_meanwhile, overlap=overlap)
    with pytest.raises(CancelledError, match="cancelled"):
        predictor.predict(volume, cancel=cancel)
    assert next(runs) == 3
    assert not any(thread.name.startswith("tiles") for thread in threading.enumerate())


def test_a_budget_below_the_voxels_alone_is_told_what_the_whole_takes(
    tiny_package_path: Path, tmp_path: Path
) -> None:
    voxels = head_like((30, 40, 26)).repeat(8, 0).repeat(8, 1)
    path = write_scan(tmp_path / "scan.nii.gz", voxels, AFFINE)
    package = Package.open(tiny_package_path)
    with pytest.raises(BudgetError) as refusal:
        Predictor(package, memory_budget_mib=1).predict(path)
    least = re.search(r"at least (\d+) MiB", str(refusal.value))
    assert least is not None
    assert int(least[1]) << 20 > 2 * voxels.astype(np.float32).nbytes
