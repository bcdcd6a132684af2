"""Sums on a device through the whole stream, with a stand-in driver and TensorRT.

Copies, computations and kernels happen as late as their streams and events allow: what is read
or overwritten too early gives other labels.
"""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.samples import head_like, sample_manifest
from support.stand_ins.device_library import compile_on_host, deferred
from support.stand_ins.gpu_fakes import FakeDriver, FakeTensorRt
from support.stand_ins.gpu_machine import brightness_package, pretend

from segmaformer.runtime import Predictor, Volume
from segmaformer.runtime.backends.tensorrt.library import load_tensorrt
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.backends.tensorrt.runner import EngineRunner
from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver
from segmaformer.runtime.bindings.kernels import AxisTaps
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, BudgetError, CancelledError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.device_lines import DeviceLines
from segmaformer.runtime.pipeline.host_lines import HostLines
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
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compile_on_host(tmp_path_factory.mktemp("cuda"), "-O0")


@pytest.fixture
def driver(library: Any, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver()
    monkeypatch.setattr(cuda_library, "cuda_library", lambda: deferred(library, driver))
    return driver


def manifest_of(spacing: tuple[float, ...] | None = None, regions: bool = False) -> Manifest:
    manifest = sample_manifest()
    tiling = replace(manifest.tiling, tile=TILE, step=0.5)
    output = manifest.output
    if regions:
        painted = (Region("one", (1,), 1), Region("two", (1,), 300))
        output = replace(output, regions=painted)
    finer = replace(manifest.preprocessing, spacing=spacing or manifest.preprocessing.spacing)
    return replace(manifest, tiling=tiling, output=output, preprocessing=finer)


def runner(driver: FakeDriver, manifest: Manifest, batch: int = 1) -> EngineRunner:
    trt = FakeTensorRt(driver, (1, *TILE), (2, *TILE), compute, batch=batch)
    device = CudaDevice(CudaDriver(driver))  # type: ignore[arg-type]
    return EngineRunner(trt, b"engine", device, manifest, Messages(trt))  # type: ignore[arg-type]


def prediction(manifest: Manifest, engine: EngineRunner) -> Prediction:
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
    driver: FakeDriver, spacing: tuple[float, ...] | None, regions: bool, batch: int
) -> None:
    manifest = manifest_of(spacing, regions)
    on_device = prediction(manifest, runner(driver, manifest, batch))
    expected = replace(on_device, resident=None).labels(ignore)
    found = on_device.labels(ignore)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1
    assert found.dtype == expected.dtype


def test_no_logits_come_back(driver: FakeDriver) -> None:
    manifest = manifest_of()
    engine = runner(driver, manifest)
    copied: list[int] = []
    original = FakeDriver._cuMemcpyDtoHAsync

    def note(self: FakeDriver, target: Any, source: Any, size: Any, stream: Any) -> int:
        copied.append(size.value)
        return original(self, target, source, size, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDriver, "_cuMemcpyDtoHAsync", note)
        labels = prediction(manifest, engine).labels(ignore)
    assert sum(size for size in copied if size > 4) == labels.size * 2


def test_memory_on_the_device_is_given_back(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    gc.collect()
    before = driver.used_bytes()
    whole.labels(ignore)
    gc.collect()
    assert driver.used_bytes() == before


def test_too_little_memory_there_is_said_and_done_here(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    expected = whole.labels(ignore)
    gc.collect()
    driver.memory_bytes = driver.used_bytes() + 1000
    lines: list[str] = []
    np.testing.assert_array_equal(replace(whole, report=lines.append).labels(ignore), expected)
    (line,) = lines
    assert line.startswith(f"{ON_PROCESSOR}: sums of logits on Fake GPU")


def test_splines_are_for_the_processor(driver: FakeDriver) -> None:
    manifest = manifest_of((1.3, 0.9, 1.6))
    cubic = replace(manifest.preprocessing, logits_resampling=Resampling(order=3))
    manifest = replace(manifest, preprocessing=cubic)
    lines: list[str] = []
    whole = replace(prediction(manifest, runner(driver, manifest)), report=lines.append)
    whole.labels(ignore)
    assert lines == [f"{ON_PROCESSOR}: splines of order above one resample the logits"]


def test_blocks_where_the_device_has_less_than_the_whole(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    stream = whole._resident_stream()
    assert stream is not None
    expected = whole.labels(ignore)
    gc.collect()
    driver.memory_bytes = driver.used_bytes()
    with pytest.raises(BudgetError, match="sums of logits on Fake GPU") as refusal:
        whole._stream(0, whole.resident)
    driver.memory_bytes += refusal.value.least_bytes
    smaller = whole._resident_stream()
    assert smaller is not None
    assert smaller.tile_runs > stream.tile_runs
    np.testing.assert_array_equal(smaller.labels(ignore), expected)


def test_the_budget_holds_for_the_host_too(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = replace(prediction(manifest, runner(driver, manifest)), budget_bytes=1000)
    with pytest.raises(BudgetError, match="scan, image, logits and labels"):
        whole._stream(0, whole.resident)


def test_threads_share_an_engine(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest, batch=2))
    expected = replace(whole, resident=None).labels(ignore)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: whole.labels(ignore), range(4)):
            np.testing.assert_array_equal(found, expected)


def test_logits_stay_until_they_are_used(driver: FakeDriver) -> None:
    """Check that events alone keep the logits, since nothing else waits for the sums here."""
    engine = runner(driver, manifest_of())
    tiles = np.random.default_rng(1).normal(size=(5, 2, 1, *TILE)).astype(np.float32)
    weights = np.ones(TILE, np.float32)
    places = np.arange(64).reshape(8, 8)
    whole = (slice(0, 8), slice(0, 8), slice(0, 8))
    taps = [AxisTaps(np.arange(8), np.arange(8), np.zeros(8))] * 3
    on_host = HostLines(64, 2, 8, weights, threads=1)
    on_device = DeviceLines(engine.resident.device, 64, 2, 8, weights)
    for lines in (on_host, on_device):
        lines.clear(range(64))
    for pair in tiles:
        for expected, logits in zip(compute(pair), engine.run_resident(pair), strict=True):
            on_host.add(places, whole[2], expected, whole)
            on_device.add(places, whole[2], logits, whole)
    np.testing.assert_array_equal(
        on_device.labels(places, taps, None), on_host.labels(places, taps, None)
    )


def test_an_engine_that_was_left_early_serves_the_next(driver: FakeDriver) -> None:
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


def test_after_logits_that_are_not_numbers_the_engine_serves_on(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    image = whole.prepared.image
    bad = replace(whole, prepared=replace(whole.prepared, image=np.full_like(image, np.nan)))
    with pytest.raises(BackendError, match="NaN or infinite") as refusal:
        bad.labels(ignore)
    assert refusal.value.__traceback__ is not None  # with all that it holds
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(whole.labels, ignore).result(60).any()


def test_a_failure_on_the_device_is_an_error(driver: FakeDriver) -> None:
    manifest = manifest_of()
    whole = prediction(manifest, runner(driver, manifest))
    driver.failing["cuStreamSynchronize"] = 700
    with pytest.raises(BackendError, match="illegal memory access"):
        whole.labels(ignore)


@pytest.mark.parametrize("tta", [False, True])
def test_the_predictor_says_where_logits_are_summed(
    library: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tta: bool
) -> None:
    machine = pretend(monkeypatch, tmp_path)
    package = brightness_package(tmp_path)
    key = load_tensorrt(package.read("fp16.onnx")).key(package, "fp16")
    EngineCache().store(key, b"engine")
    lines: list[str] = []

    def predictor() -> Predictor:
        return Predictor(package, "tensorrt", tta=tta, report=lines.append)

    expected = predictor().predict(VOLUME).labels
    monkeypatch.setattr(cuda_library, "cuda_library", lambda: deferred(library, machine.driver))
    np.testing.assert_array_equal(predictor().predict(VOLUME).labels, expected)
    mirrored = f"{ON_PROCESSOR}: those of mirrored tiles are averaged there"
    missing = f"{ON_PROCESSOR}: there is no CUDA library for what is pretended"
    assert lines == ([mirrored, mirrored] if tta else [missing])
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        predictor().predict(VOLUME, cancel=cancel)
