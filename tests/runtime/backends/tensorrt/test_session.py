from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.packages.samples import sample_manifest
from support.stand_ins.gpu_fakes import DataType, FakeDriver, FakeTensorRt

from segmaformer.runtime.backends import NetworkKind
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.backends.tensorrt.session import SLOTS, EngineSession
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver
from segmaformer.runtime.errors import BackendError

TILE = (8, 8, 8)


def two_channels(tiles: np.ndarray) -> np.ndarray:
    return np.concatenate([tiles, -2 * tiles], axis=1)


def fake(**options: Any) -> FakeTensorRt:
    settings = {"compute": two_channels, "tile_shape": (1, *TILE), "logits_shape": (2, *TILE)}
    return FakeTensorRt(FakeDriver(), **{**settings, **options})


def runner(trt: Any) -> EngineSession:
    device = CudaDevice(CudaDriver(trt.driver))
    return EngineSession(
        trt,
        b"engine",
        device,
        sample_manifest(),
        Messages(trt),
        kind=NetworkKind("tensorrt", "cuda", "fp32"),
        description="",
        identity="",
    )


def random_tiles(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 1, *TILE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_tile_gets_its_own_logits(batch: int, count: int) -> None:
    trt = fake(batch=batch)
    engine = runner(trt)
    tiles = random_tiles(count)
    np.testing.assert_array_equal(engine.run(tiles), two_channels(tiles))
    assert trt.batches == [batch] * (count // batch) + ([count % batch] if count % batch else [])
    assert (engine.batch, engine.tiles_at_once) == (batch, SLOTS * batch)


def test_a_second_run_does_not_touch_the_logits_of_the_first() -> None:
    engine = runner(fake(batch=2))
    first, second = random_tiles(3, seed=1), random_tiles(3, seed=2)
    logits = engine.run(first)
    engine.run(second)
    np.testing.assert_array_equal(logits, two_channels(first))


def test_no_two_computations_share_the_scratch_memory() -> None:
    """Check the event between the streams, by which the second waits for the first."""
    order: list[float] = []

    def note(tiles: np.ndarray) -> np.ndarray:
        order.append(float(tiles[0, 0, 0, 0, 0]))
        return two_channels(tiles)

    engine = runner(fake(compute=note))
    engine.run(np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1, 1) + np.zeros((1, 1, *TILE)))
    assert order == [0, 1, 2, 3, 4]
    # Waiting for the later slot alone must run the earlier computation as well.
    driver = engine._device.driver._library
    assert driver.calls.count("cuStreamWaitEvent") == 5 * (SLOTS + 1)


def test_several_threads_may_run_it() -> None:
    engine = runner(fake(batch=2))
    batches = [random_tiles(3, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for tiles, logits in zip(batches, pool.map(engine.run, batches), strict=True):
            np.testing.assert_array_equal(logits, two_channels(tiles))


def test_no_tiles_give_no_logits() -> None:
    assert runner(fake()).run(random_tiles(0)).shape == (0, 2, *TILE)


def test_an_engine_that_cannot_be_opened_says_why() -> None:
    with pytest.raises(BackendError, match="cannot be opened: the magic tag does not match; build"):
        runner(fake(openable=False))


def test_a_library_that_does_not_start_says_why() -> None:
    trt = fake()

    def fail(logger: Any) -> None:
        logger.log(trt.ILogger.Severity.ERROR, "CUDA driver version is insufficient")
        raise TypeError("factory function returned nullptr")

    trt.Runtime = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(
        BackendError, match=r"tensorrt 10\.3\.0 cannot start here: CUDA driver version is insuff"
    ):
        runner(trt)


def test_too_little_memory_for_the_engine_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"its memory on Fake GPU: out of memory.*--batch"):
        runner(fake(has_memory=False))


def test_too_little_memory_for_the_tiles_is_an_error() -> None:
    trt = fake(batch=4)
    trt.driver.memory_bytes = 20_000
    with pytest.raises(BackendError, match="Fake GPU has too little memory"):
        runner(trt)
    gc.collect()
    assert trt.driver.used_bytes() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile_shape": (1, 8, 8, 16)}, r"the engine takes \[\(1, 8, 8, 16\)\]"),
        ({"tile_shape": (2, *TILE)}, r"the engine takes \[\(2, 8, 8, 8\)\]"),
        ({"logits_shape": (3, *TILE)}, r"the engine gives \[\(3, 8, 8, 8\)\]"),
        ({"types": (DataType.FLOAT, DataType.HALF)}, r"the engine gives .*HALF"),
    ],
)
def test_an_engine_of_another_network_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendError, match=words):
        runner(fake(**options))


def test_a_refused_batch_says_why_and_leaves_the_engine_usable() -> None:
    trt = fake()
    engine = runner(trt)
    trt.accepts = False
    with pytest.raises(BackendError, match=r"refused a batch of .*the stream is not valid"):
        engine.run(random_tiles(2))
    trt.accepts = True
    tiles = random_tiles(2)
    np.testing.assert_array_equal(engine.run(tiles), two_channels(tiles))


def test_a_failure_on_the_device_is_an_error() -> None:
    trt = fake()
    engine = runner(trt)
    trt.driver.failing["cuStreamSynchronize"] = 700
    with pytest.raises(BackendError, match="illegal memory access"):
        engine.run(random_tiles(1))
