"""The driver's functions through ctypes, against the prototypes of CUDA's own header."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from support.native.native_builds import STAND_INS, compile_library, cuda_include_dir

from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver, Event, Stream
from segmaformer.runtime.errors import BackendError


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    include = cuda_include_dir()
    source = STAND_INS / "driver_on_host.cc"
    output = tmp_path_factory.mktemp("driver") / "libcuda.so"
    compile_library(output, [source], f"-isystem{include}", over_op_library=False)
    return ctypes.CDLL(str(output))


@pytest.fixture
def device(library: ctypes.CDLL) -> CudaDevice:
    return CudaDevice(CudaDriver(library))


def test_the_facts_come_from_the_right_attributes(device: CudaDevice) -> None:
    facts = device.facts
    assert (facts.name, facts.compute_capability, facts.processors) == ("Host", "9.0", 132)
    assert not facts.integrated
    assert (facts.memory_bytes, device.free_bytes()) == (80 << 30, 60 << 30)
    assert int(device.driver.version.partition(".")[0]) >= 11


def test_addresses_sizes_and_handles_arrive_whole(device: CudaDevice) -> None:
    stream, other, event = Stream(device), Stream(device), Event(device)
    source, target = device.allocate_pinned((3, 5)), device.allocate_pinned((3, 5))
    memory = device.allocate(source.array.nbytes)
    source.array[...] = np.arange(15).reshape(3, 5)
    target.array[...] = 0
    stream.copy_in(memory, source, source.array.nbytes)
    stream.record(event)
    other.wait_for(event)
    other.copy_out(target, memory, 40)
    other.synchronize()
    assert target.array.ravel().tolist() == [*range(10), 0, 0, 0, 0, 0]


def test_too_much_is_out_of_memory(device: CudaDevice) -> None:
    with pytest.raises(BackendError, match="too little memory: 71680 MiB were asked for, 61440 of"):
        device.allocate(70 << 30)


def test_streams_and_events_are_given_back(device: CudaDevice, library: ctypes.CDLL) -> None:
    gc.collect()
    before = library.count_held()
    things = [Stream(device), Event(device)]
    assert library.count_held() == before + 2
    things.clear()
    gc.collect()
    assert library.count_held() == before
