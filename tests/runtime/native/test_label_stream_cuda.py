"""The CUDA kernels for sums and labels, bit for bit against those of the processor.

On the processor their very sources run over ``cuda_on_host``; see ``test_selective_scan_cuda``
for what that cannot show. Where there is a GPU they run there as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stand_ins.device_library import compile_on_host, deferred
from support.stand_ins.gpu_fakes import FakeDriver

from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver, Event, Stream
from segmaformer.runtime.bindings.kernels import AxisTaps
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline import device_lines
from segmaformer.runtime.pipeline.device_check import check_device_lines
from segmaformer.runtime.pipeline.device_lines import DeviceLines, DeviceLogits, lines_bytes
from segmaformer.runtime.pipeline.host_lines import HostLines, Lines


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compile_on_host(tmp_path_factory.mktemp("cuda"), "-O2")


@pytest.fixture(scope="module", params=["GPU", "stand-in"])
def device(request: pytest.FixtureRequest) -> Iterator[CudaDevice]:
    """Find a GPU with the installed library, or the stand-in for both."""
    if request.param == "stand-in":
        driver = FakeDriver(memory_bytes=1 << 30)
        library = deferred(request.getfixturevalue("on_host"), driver)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda_library, "cuda_library", lambda: library)
            yield CudaDevice(CudaDriver(driver))
        return
    try:
        cuda_library.cuda_library()
        yield CudaDevice()
    except BackendError as error:
        pytest.skip(str(error))


def on(device: CudaDevice, logits: np.ndarray) -> tuple[DeviceLogits, Any]:
    """Logits on a device, with the objects that keep them there."""
    memory, stream = device.allocate(logits.nbytes), Stream(device)
    stream.upload(memory.address, logits)
    tile = DeviceLogits(memory.address, Event(device), Event(device))
    stream.record(tile.computed)
    return tile, (memory, stream, logits)


def random_taps(random: np.random.Generator, extent: int, count: int) -> AxisTaps:
    low = np.sort(random.integers(0, extent, count))
    high = np.minimum(low + random.integers(0, 2, count), extent - 1)
    return AxisTaps(low, high, np.where(high > low, random.uniform(0, 1, count), 0.0))


def some_labels(lines: Lines[Any], tiles: list[Any], case: SimpleNamespace) -> np.ndarray:
    lines.clear(case.places.ravel().tolist())
    for tile in tiles:
        lines.add(case.places[case.rows], case.columns, tile, case.inside)
    lines.divide(case.places, case.divisors)
    return lines.labels(case.places, case.taps, case.regions)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tile=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 150)),
    target=st.tuples(st.integers(0, 6), st.integers(1, 6), st.integers(1, 140)),
    channels=st.integers(1, 7),
    regions=st.booleans(),
    rounded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_labels_are_those_of_the_processor(device, tile, target, channels, regions, rounded, seed):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    inside = tuple(slice(int(random.integers(0, n)), n) for n in tile)
    extent = [side.stop - side.start for side in inside]
    shape = (extent[0] + 1, extent[1] + 2, extent[2] + 3)
    count = shape[0] * shape[1]
    weights = random.uniform(0.1, 10, tile).astype(np.float32)
    tiles = [2 * random.normal(size=(channels, *tile)).astype(np.float32) for _ in range(3)]
    if rounded:  # equal logits, of which the first wins
        weights, tiles = np.ones_like(weights), [np.round(each) for each in tiles]
    case = SimpleNamespace(
        places=random.permutation(count + 4)[:count].reshape(shape[:2]),
        rows=(slice(1, shape[0]), slice(1, shape[1] - 1)),
        columns=slice(2, 2 + extent[2]),
        inside=inside,
        divisors=random.uniform(0.5, 3, shape).astype(np.float32),
        taps=[random_taps(random, *axis) for axis in zip(shape, target, strict=True)],
        regions=random.integers(1, 60_000, channels).tolist() if regions else None,
    )
    memory = (count + 4, channels, shape[2])
    expected = some_labels(HostLines(*memory, weights, threads=1), tiles, case)
    sent = [on(device, each) for each in tiles]
    found = some_labels(DeviceLines(device, *memory, weights), [logits for logits, _ in sent], case)
    np.testing.assert_array_equal(found, expected)


def plain_case(channels: int = 2) -> SimpleNamespace:
    shape = (3, 4, 5)
    return SimpleNamespace(
        logits=np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32),
        places=np.arange(12).reshape(3, 4),
        rows=(slice(0, 3), slice(0, 4)),
        columns=slice(0, 5),
        inside=tuple(slice(0, n) for n in shape),
        divisors=np.ones(shape, np.float32),
        taps=[AxisTaps(np.arange(n), np.arange(n), np.zeros(n)) for n in shape],
        regions=None,
    )


def test_labels_that_are_too_many_come_in_parts(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lines, "LABEL_BYTES", 50)  # a plane takes 40
    case = plain_case()
    tile, held = on(device, case.logits)
    found = some_labels(DeviceLines(device, 12, 2, 5, case.divisors), [tile], case)
    np.testing.assert_array_equal(found, case.logits.argmax(axis=0))
    del held


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_numbers_are_refused(device: CudaDevice, value: float) -> None:
    case = plain_case()
    case.logits[1, 2, 3, 4] = value
    tile, held = on(device, case.logits)
    with pytest.raises(BackendError, match="NaN or infinite; run the fp32 variant"):
        some_labels(DeviceLines(device, 12, 2, 5, case.divisors), [tile], case)
    del held


def test_a_device_that_computes_right_passes_the_check(device: CudaDevice) -> None:
    check_device_lines(device)


def test_a_device_that_computes_wrong_does_not(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_nothing(*arguments: object) -> None:
        pass

    monkeypatch.setattr(DeviceLines, "add", add_nothing)
    with pytest.raises(BackendError, match=r"of 1980 labels from .* are not the processor's"):
        check_device_lines(device)


def test_what_lines_take_is_known_before(on_host: ctypes.CDLL) -> None:
    driver = FakeDriver(memory_bytes=1 << 30)
    device = CudaDevice(CudaDriver(driver))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_library, "cuda_library", lambda: deferred(on_host, driver))
        case = plain_case()
        tile, held = on(device, case.logits)
        before = driver.used_bytes()
        lines = DeviceLines(device, 12, 2, 5, case.divisors)
        some_labels(lines, [tile], case)
        taken = driver.used_bytes() - before
    assert 12 * 2 * 5 * 4 < taken <= lines_bytes(12, 2, 5, (3, 4, 5))
    del held


def test_what_is_refused_says_why(on_host: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_library, "cuda_library", lambda: on_host)
    with pytest.raises(BackendError, match="sgmf_blend_tile_cuda failed: a pointer is NULL"):
        cuda_library.enqueue("sgmf_blend_tile_cuda", None, None, None)
