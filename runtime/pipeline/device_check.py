"""Check that a device sums tiles and labels voxels as the processor does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.cuda_driver import CudaDevice, Event, Stream
from segmaformer.runtime.bindings.kernels import AxisTaps, Logits
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline.device_lines import DeviceLines, DeviceLogits
from segmaformer.runtime.pipeline.host_lines import HostLines, Lines, Tile

_SHAPE = (7, 6, 9)
_TARGET = (9, 11, 20)
_CHANNELS = 5
_WHOLE = (slice(0, _SHAPE[0]), slice(0, _SHAPE[1]), slice(0, _SHAPE[2]))


def check_device_lines(device: CudaDevice) -> None:
    """Sum and label a small tile on both, and compare.

    Raises
    ------
    BackendError
        There is no CUDA library, the device cannot run it, or the labels differ.
    """
    device.activate()
    random = np.random.default_rng(0)
    logits = random.normal(size=(_CHANNELS, *_SHAPE)).astype(np.float32)
    weights = random.uniform(0.5, 2, _SHAPE).astype(np.float32)
    shape = (_SHAPE[0] * _SHAPE[1], _CHANNELS, _SHAPE[2])
    expected = _labels(HostLines(*shape, weights, threads=1), logits, weights)
    memory, stream = device.allocate(logits.nbytes), Stream(device)
    stream.upload(memory.address, logits)
    tile = DeviceLogits(memory.address, Event(device), Event(device))
    stream.record(tile.computed)
    found = _labels(DeviceLines(device, *shape, weights), tile, weights)
    different = np.count_nonzero(found != expected)
    if different:
        raise BackendError(
            f"{different} of {found.size} labels from {device.facts.name} are not the processor's"
        )


def _labels(lines: Lines[Tile], tile: Tile, divisors: Logits) -> npt.NDArray[np.uint16]:
    taps = [AxisTaps.between(*lengths) for lengths in zip(_SHAPE, _TARGET, strict=True)]
    places = np.arange(_SHAPE[0] * _SHAPE[1], dtype=np.int64).reshape(_SHAPE[:2])
    lines.clear(places.ravel().tolist())
    for _ in range(2):
        lines.add(places, _WHOLE[2], tile, _WHOLE)
    lines.divide(places, divisors)
    return lines.labels(places, taps, None)
