"""Sums on a device through the whole stream, with a stand-in driver and TensorRT.

Copies, computations and kernels happen as late as their streams and events allow: what is read
or overwritten too early gives other labels.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.packages.samples import head_like, sample_manifest
from support.stand_ins.gpu_fakes import FakeTensorRt
from support.stand_ins.gpu_machine import brightness_package, pretend
from support.stand_ins.host_device import HostDriver

from segmaformer.runtime import Predictor, Volume
from segmaformer.runtime.backends import NetworkKind
from segmaformer.runtime.backends.tensorrt.library import load_tensorrt
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, BudgetError, CancelledError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.prediction import ON_PROCESSOR, Prediction
from segmaformer.runtime.pipeline.preprocessing import preprocess
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.spec import Region, Resampling

TILE = (8, 8, 8)
PLENTY = 1 << 40
VOLUME = Volume(head_like((20, 26, 19))[None] + np.float32(1), np.eye(4))
PLACE = np.random.default_rng(0).normal(size=(2, *TILE)).astype(np.float32)


def compute(tiles: np.ndarray) -> np.ndarray:
    return np.concatenate([tiles, -tiles], axis=1) + PLACE


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> HostDriver:
    return HostDriver(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def driver(machine: HostDriver) -> Iterator[HostDriver]:
    with machine.installed():
        yield machine
    machine.limit_memory(0)


def manifest_of(spacing: tuple[float, ...] | None = None, regions: bool = False) -> Manifest:
    manifest = sample_manifest()
    tiling = replace(manifest.tiling, tile=TILE, step=0.5)
    output = manifest.output
    if regions:
        painted = (Region("one", (1,), 1), Region("two", (1,), 300))
        output = replace(output, regions=painted)
    finer = replace(manifest.preprocessing, spacing=spacing or manifest.preprocessing.spacing)
    return replace(manifest, tiling=tiling, output=output, preprocessing=finer)


def runner(driver: HostDriver, manifest: Manifest, batch: int = 1) -> EngineSession:
    trt = FakeTensorRt(driver, (1, *TILE), (2, *TILE), compute, batch=batch)
    messages = Messages(trt)  # type: ignore[arg-type]
    return EngineSession(
        trt,  # type: ignore[arg-type]
        b"engine",
        driver.device(),
        manifest,
        messages,
        kind=NetworkKind("tensorrt", "cuda", "fp32"),
        description="",
        identity="",
    )


def prediction(manifest: Manifest, engine: EngineSession) -> Prediction:
    return Prediction(
        preprocess(VOLUME, manifest.preprocessing),
        manifest,
        TileNetwork(engine.run, engine.tiles_at_once),
        budget_bytes=PLENTY,
        scan_bytes=VOLUME.voxels.nbytes,
        threads=1,
        resident=engine.resident,
        report=pytest.fail,
    )


def ignore(done: int, count: int) -> None:
    pass


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("spacing", [None, (1.3, 0.9, 1.6)])
def test_labels_are_those_of_the_processor(
    driver: HostDriver, spacing: tuple[float, ...] | None, regions: bool, batch: int
) -> None:
    manifest = manifest_of(spacing, regions)
    on_device = prediction(manifest, runner(driver, manifest, batch))
    expected = replace(on_device, resident=None).labels(ignore)
    found = on_device.labels(ignore)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1
    assert found.dtype == expected.dtype


def test_no_logits_come_back(driver: HostDriver) -> None:
    """Nor anything else but labels, two bytes for a voxel, and a flag for each strip."""
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    before = driver.copied_out_bytes()
    labels = whole.labels(ignore)
    copied = driver.copied_out_bytes() - before
    strips, rest = divmod(copied - labels.size * 2, 4)
    assert rest == 0
    assert 1 <= strips <= 40


def test_memory_on_the_device_is_given_back(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    gc.collect()
    before = driver.used_bytes()
    whole.labels(ignore)
    gc.collect()
    assert driver.used_bytes() == before


def test_too_little_memory_there_is_said_and_done_here(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    expected = whole.labels(ignore)
    gc.collect()
    driver.limit_memory(driver.used_bytes() + 1000)
    lines: list[str] = []
    np.testing.assert_array_equal(replace(whole, report=lines.append).labels(ignore), expected)
    (line,) = lines
    assert line.startswith(f"{ON_PROCESSOR}: sums of logits on Host")


def test_splines_are_for_the_processor(driver: HostDriver) -> None:
    manifest = manifest_of((1.3, 0.9, 1.6))
    cubic = replace(manifest.preprocessing, logits_resampling=Resampling(order=3))
    manifest = replace(manifest, preprocessing=cubic)
    lines: list[str] = []
    whole = replace(prediction(manifest, runner(driver, manifest)), report=lines.append)
    whole.labels(ignore)
    assert lines == [f"{ON_PROCESSOR}: splines of order above one resample the logits"]


def test_blocks_where_the_device_has_less_than_the_whole(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    stream = whole._resident_stream()
    assert stream is not None
    expected = whole.labels(ignore)
    gc.collect()
    driver.limit_memory(driver.used_bytes())
    with pytest.raises(BudgetError, match="sums of logits on Host") as refusal:
        whole._stream(0, whole.resident)
    driver.limit_memory(driver.used_bytes() + refusal.value.least_bytes)
    smaller = whole._resident_stream()
    assert smaller is not None
    assert smaller.tile_runs > stream.tile_runs
    np.testing.assert_array_equal(smaller.labels(ignore), expected)


def test_the_budget_holds_for_the_host_too(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = replace(prediction(manifest, runner(driver, manifest)), budget_bytes=1000)
    with pytest.raises(BudgetError, match="scan, image, logits and labels"):
        whole._stream(0, whole.resident)


def test_threads_share_an_engine(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest, batch=2))
    expected = replace(whole, resident=None).labels(ignore)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: whole.labels(ignore), range(4)):
            np.testing.assert_array_equal(found, expected)


def test_logits_stay_until_they_are_used(driver: HostDriver) -> None:
    """Many tiles of one strip, before which nothing waits for the sums: only events do."""
    manifest = manifest_of()
    manifest = replace(manifest, tiling=replace(manifest.tiling, step=0.25))
    voxels = head_like((40, 8, 8))[None] + np.float32(1)
    prepared = preprocess(Volume(voxels, np.eye(4)), manifest.preprocessing)
    whole = replace(prediction(manifest, runner(driver, manifest)), prepared=prepared)
    expected = replace(whole, resident=None).labels(ignore)
    np.testing.assert_array_equal(whole.labels(ignore), expected)


def test_a_single_tile_is_not_weighed(driver: HostDriver) -> None:
    manifest = manifest_of((1.3, 0.9, 1.6))
    prepared = preprocess(
        Volume(head_like((8, 7, 6))[None] + np.float32(1), np.eye(4)), manifest.preprocessing
    )
    whole = replace(prediction(manifest, runner(driver, manifest)), prepared=prepared)
    expected = replace(whole, resident=None).labels(ignore)
    np.testing.assert_array_equal(whole.labels(ignore), expected)


def test_an_engine_that_was_left_early_serves_the_next(driver: HostDriver) -> None:
    manifest = manifest_of()
    engine = runner(driver, manifest, batch=2)
    tiles = np.random.default_rng(1).normal(size=(4, 1, *TILE)).astype(np.float32)
    logits = engine.run_resident(tiles)
    next(logits)
    taken = threading.Event()
    waiting = threading.Thread(target=lambda: (engine.run(tiles), taken.set()))
    waiting.start()
    assert not taken.wait(0.05)
    logits.close()
    assert taken.wait(10)
    waiting.join()
    np.testing.assert_array_equal(engine.run(tiles), compute(tiles))


def test_after_logits_that_are_not_numbers_the_engine_serves_on(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    image = whole.prepared.image
    bad = replace(whole, prepared=replace(whole.prepared, image=np.full_like(image, np.nan)))
    with pytest.raises(BackendError, match="NaN or infinite") as refusal:
        bad.labels(ignore)
    assert refusal.value.__traceback__ is not None  # with all that it holds
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(whole.labels, ignore).result(60).any()


def test_a_failure_on_the_device_is_an_error(driver: HostDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    with (
        driver.failing("cuStreamSynchronize", 700),
        pytest.raises(BackendError, match="cuStreamSynchronize failed with A_NAME: a text"),
    ):
        whole.labels(ignore)


@pytest.mark.parametrize("tta", [False, True])
def test_the_predictor_says_where_logits_are_summed(
    machine: HostDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tta: bool
) -> None:
    pretend(monkeypatch, tmp_path, host=machine)
    package = brightness_package(tmp_path)
    key = load_tensorrt(package.read("fp16.onnx")).key(package, "fp16")
    EngineCache().store(key, b"engine")
    lines: list[str] = []

    def predictor() -> Predictor:
        return Predictor(package, "tensorrt", tta=tta, report=lines.append)

    expected = predictor().predict(VOLUME).labels
    monkeypatch.setattr(cuda_library, "cuda_library_path", lambda: machine.kernels)
    np.testing.assert_array_equal(predictor().predict(VOLUME).labels, expected)
    mirrored = f"{ON_PROCESSOR}: those of mirrored tiles are averaged there"
    missing = f"{ON_PROCESSOR}: there is no CUDA library for what is pretended"
    assert lines == ([mirrored, mirrored] if tta else [missing])
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        predictor().predict(VOLUME, cancel=cancel)
