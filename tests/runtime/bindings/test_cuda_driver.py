from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import numpy as np
import pytest
from support.stand_ins.gpu_fakes import NO_DEVICE, FakeDriver

from segmaformer.runtime.bindings import cuda_driver
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver, Event, Stream
from segmaformer.runtime.errors import BackendError


@pytest.fixture
def library() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def device(library: FakeDriver) -> CudaDevice:
    return CudaDevice(CudaDriver(library))


def test_a_device_says_what_it_is(device: CudaDevice) -> None:
    facts = device.facts
    assert (facts.name, facts.compute_capability, facts.processors) == ("Fake GPU", "8.7", 16)
    assert (facts.memory_bytes, facts.integrated) == (128 << 20, True)
    assert device.driver.version == "12.6"


def test_what_cannot_start_says_cudas_own_text(library: FakeDriver) -> None:
    library.failing["cuInit"] = NO_DEVICE
    with pytest.raises(BackendError, match=r"cuInit failed with CUDA_ERROR_NO_DEVICE: no CUDA-cap"):
        CudaDriver(library)


def test_no_device_is_an_error(library: FakeDriver) -> None:
    library.devices = 0
    with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES"):
        CudaDevice(CudaDriver(library))


def test_no_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libnot-a-driver.so.1")
    cuda_driver.load_driver.cache_clear()
    with pytest.raises(BackendError, match=r"no NVIDIA driver here .*libnot-a-driver"):
        cuda_driver.load_driver()


def copy_there_and_back(device: CudaDevice) -> tuple[np.ndarray, np.ndarray]:
    """Return what has come back before the stream is waited for, and after."""
    source, target = device.allocate_pinned((2, 3)), device.allocate_pinned((2, 3))
    memory, stream = device.allocate(source.array.nbytes), Stream(device)
    source.array[...] = np.arange(6).reshape(2, 3)
    target.array[...] = -1
    stream.copy_in(memory, source, 24)
    stream.copy_out(target, memory, 16)
    before = target.array.copy()
    stream.synchronize()
    return before, target.array.copy()


def test_what_is_copied_in_comes_out(device: CudaDevice) -> None:
    before, after = copy_there_and_back(device)
    assert (before == -1).all()  # this driver copies as late as it may
    assert after.ravel().tolist() == [0, 1, 2, 3, -1, -1]


def test_a_stream_waits_for_the_event_of_another(device: CudaDevice) -> None:
    first, second, event = Stream(device), Stream(device), Event(device)
    one, other = device.allocate_pinned((1,)), device.allocate_pinned((1,))
    memory = device.allocate(4)
    one.array[0], other.array[0] = 7, 0
    first.copy_in(memory, one, 4)
    first.record(event)
    second.wait_for(event)
    second.copy_out(other, memory, 4)
    second.synchronize()
    assert other.array[0] == 7


def test_everything_is_given_back(library: FakeDriver) -> None:
    device = CudaDevice(CudaDriver(library))
    before = set(library.held)
    things = (device.allocate(64), device.allocate_pinned((4,)), Stream(device), Event(device))
    assert len(library.held) == len(before) + len(things)
    del things
    gc.collect()
    assert set(library.held) == before
    del device
    gc.collect()
    assert library.calls[-1] == "cuDevicePrimaryCtxRelease_v2"


@pytest.mark.parametrize("kind", ["device", "pinned"])
def test_too_little_memory_says_how_much_is_free(device: CudaDevice, kind: str) -> None:
    held = device.allocate(64 << 20)
    allocate = device.allocate if kind == "device" else lambda n: device.allocate_pinned((n // 4,))
    with pytest.raises(
        BackendError, match="Fake GPU has too little memory: 70 MiB were asked for, 64 of 128 MiB"
    ):
        allocate(70 << 20)
    assert held.size == 64 << 20


def test_another_failure_keeps_its_own_text(device: CudaDevice, library: FakeDriver) -> None:
    library.failing["cuMemAlloc_v2"] = 700
    with pytest.raises(BackendError, match="cuMemAlloc_v2 failed with CUDA_ERROR_ILLEGAL_ADDRESS"):
        device.allocate(4)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["570.124.06\n"], "570.124.06"),
        ([None, "# R36 (release), REVISION: 4.3\nmore\n"], "# R36 (release), REVISION: 4.3"),
        (["", "second"], "second"),
        ([None, None], None),
    ],
)
def test_the_drivers_release_is_the_first_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str | None], expected: str | None
) -> None:
    paths = []
    for index, content in enumerate(files):
        paths.append(tmp_path / str(index))
        if content is not None:
            paths[-1].write_text(content)
    monkeypatch.setattr(cuda_driver, "DRIVER_VERSIONS", tuple(paths))
    assert cuda_driver.driver_release() == expected


def test_the_real_driver_where_there_is_one() -> None:
    try:
        ctypes.CDLL(cuda_driver.LIBRARY)
    except OSError:
        pytest.skip("no NVIDIA driver on this machine")
    cuda_driver.load_driver.cache_clear()
    try:
        device = CudaDevice()
    except BackendError as error:
        pytest.skip(f"no usable GPU on this machine: {error}")
    _, after = copy_there_and_back(device)
    assert after.ravel().tolist() == [0, 1, 2, 3, -1, -1]
