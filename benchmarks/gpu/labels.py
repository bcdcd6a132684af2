"""Sums of tiles and labels on a GPU against the processor's, at the size of real scans.

The network stands still: slopes and places, computed by PyTorch on the device for both, so that a
label that differs is the sums' fault.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmaformer.runtime.bindings.cuda_driver import CudaDevice, Event, Stream
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.pipeline.device_network import (
    DeviceLogits,
    DeviceNetwork,
    check_device_labels,
)
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.spec import Label, Output, Region, Resampling, Tiling, Triple

PLENTY = 1 << 40


@dataclass(frozen=True)
class Case:
    """A scan on the network's grid, its tile and the grid of its labels.

    Attributes
    ----------
    shape, tile, target
        Shapes (D, H, W).
    classes
        Channels of the logits.
    regions
        Whether they are regions that may overlap.
    """

    shape: Triple
    tile: Triple
    target: Triple
    classes: int
    regions: bool = False


CASES = {
    "small": Case((40, 50, 60), (32, 32, 32), (53, 47, 71), 3),
    "abdomen": Case((120, 320, 320), (48, 192, 192), (150, 512, 512), 14),
    "brain": Case((155, 240, 240), (128, 128, 128), (155, 240, 240), 3, regions=True),
}


class StandingNetwork:
    """Logits (K, *tile) of a tile: its voxels times a slope, plus a place.

    Parameters
    ----------
    case
        Sizes.
    device
        Device of the sums.
    torch_device
        PyTorch's name of it.
    """

    def __init__(self, case: Case, device: CudaDevice, torch_device: str):
        import torch

        generator = torch.Generator(torch_device).manual_seed(0)
        given: dict[str, Any] = {"generator": generator, "device": torch_device}
        self._slopes = torch.randn(case.classes, 1, 1, 1, **given)
        self._places = 2 * torch.randn(case.classes, *case.tile, **given)
        self._torch, self._device = torch, device

    def _logits(self, tiles: np.ndarray) -> Any:
        voxels = self._torch.from_numpy(tiles).to(self._places.device)
        found = voxels * self._slopes + self._places
        if found.is_cuda:
            self._torch.cuda.synchronize()
        return found

    def on_processor(self, tiles: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._logits(tiles).cpu().numpy()
        return found

    def on_device(self) -> DeviceNetwork:
        def run(tiles: np.ndarray) -> Generator[DeviceLogits, None, None]:
            logits = self._logits(tiles)
            stream, used = Stream(self._device), Event(self._device)
            computed = Event(self._device)
            stream.record(computed)
            try:
                for index in range(len(tiles)):
                    yield DeviceLogits(logits[index].data_ptr(), computed, used)
            finally:
                stream.wait_for(used)
                stream.synchronize()

        return DeviceNetwork(self._device, run, 2)


def compare(case: Case, on: CudaDevice, torch_device: str = "cuda") -> dict[str, Any]:
    """Return how many labels differ, and seconds on the device and on the processor."""
    check_device_labels(on)
    network = StandingNetwork(case, on, torch_device)
    device = network.on_device()
    ours, seconds = _timed(_stream(case, network, device))
    again, _ = _timed(_stream(case, network, device))
    expected, on_processor = _timed(_stream(case, network, None))
    return {
        "voxels": expected.size,
        "labels": len(np.unique(expected)),
        "different": int(np.count_nonzero(ours != expected)),
        "different_when_repeated": int(np.count_nonzero(again != expected)),
        "device_seconds": seconds,
        "processor_seconds": on_processor,
        "processors": available_processors(),
    }


def _timed(stream: LabelStream) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    found = stream.labels(lambda done, count: None)
    return found, time.perf_counter() - start


def _stream(case: Case, network: StandingNetwork, device: DeviceNetwork | None) -> LabelStream:
    image = np.random.default_rng(0).normal(size=(1, *case.shape)).astype(np.float32)
    spacing = tuple(a / b for a, b in zip(case.shape, case.target, strict=True))
    labels = tuple(Label(value, str(value)) for value in range(case.classes))
    regions = tuple(Region(str(k), (1,), k + 1) for k in range(case.classes if case.regions else 0))
    return LabelStream(
        image,
        Tiling(case.tile, 0.5, gaussian=True),
        Output(labels, regions),
        LogitsGrid(case.target, spacing, (1.0,) * 3, Resampling(order=1)),  # type: ignore[arg-type]
        TileNetwork(network.on_processor),
        device=device,
        budget=MemoryBudget(PLENTY),
        threads=available_processors(),
    )
