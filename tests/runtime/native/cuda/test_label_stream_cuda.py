"""The CUDA kernels for sums and labels, bit for bit against those of the processor.

On the processor their very sources run over ``cuda_on_host``; see ``test_selective_scan_cuda``
for what that cannot show. Where there is a GPU they run there as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.native import single_functions
from support.native.native_builds import NATIVE
from support.stand_ins.host_device import HostDriver, on_device

from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.bindings.cuda_driver import CudaDevice
from segmaformer.runtime.errors import BackendError, BudgetError
from segmaformer.runtime.pipeline.device_network import DeviceNetwork, check_device_labels
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.spec import Label, Output, Region, Resampling, Tiling, Triple

PLENTY = 1 << 40


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> HostDriver:
    return HostDriver(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module", params=["GPU", "stand-in"])
def device(request: pytest.FixtureRequest) -> Iterator[CudaDevice]:
    """Find a GPU with the installed library, or the stand-in for both."""
    if request.param == "stand-in":
        stand_in: HostDriver = request.getfixturevalue("driver")
        with stand_in.installed():
            yield stand_in.device()
        return
    try:
        single_functions.cuda_library()
        yield CudaDevice()
    except BackendError as error:
        pytest.skip(str(error))


class Case:
    """An image, and a network whose logits differ from voxel to voxel."""

    def __init__(
        self,
        shape: Triple,
        tile: Triple,
        target: Triple,
        *,
        channels: int = 2,
        regions: bool = False,
        rounded: bool = False,
        seed: int = 0,
    ):
        random = np.random.default_rng(seed)
        self.image = random.normal(size=(1, *shape)).astype(np.float32)
        self.tiling = Tiling(tile, 0.5, gaussian=not rounded)
        painted = random.integers(1, 60_000, channels).tolist()
        self.output = Output(
            tuple(Label(value, str(value)) for value in range(channels)),
            tuple(Region(f"{i}", (1,), value) for i, value in enumerate(painted) if regions),
        )
        spacing = tuple(a / b for a, b in zip(shape, target, strict=True))
        self.grid = LogitsGrid(target, spacing, (1.0,) * 3, Resampling(order=1))  # type: ignore[arg-type]
        self._slopes = random.normal(size=(channels, 1, 1, 1))
        self._place = 2 * random.normal(size=(channels, *tile))
        self._rounded = rounded

    def compute(self, tiles: np.ndarray) -> np.ndarray:
        logits = (tiles * self._slopes + self._place).astype(np.float32)
        return np.round(logits) if self._rounded else logits  # equals, of which the first wins

    def stream(self, device: DeviceNetwork | None = None) -> LabelStream:
        return LabelStream(
            self.image,
            self.tiling,
            self.output,
            self.grid,
            TileNetwork(self.compute),
            device=device,
            budget=MemoryBudget(PLENTY),
            threads=1,
        )

    def labels(self, device: DeviceNetwork | None = None) -> np.ndarray:
        return self.stream(device).labels(lambda done, count: None)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 150))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=SHAPES,
    tile=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(40, 150)),
    target=SHAPES,
    channels=st.integers(1, 7),
    regions=st.booleans(),
    rounded=st.booleans(),
    tiles_at_once=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_labels_are_those_of_the_processor(  # type: ignore[no-untyped-def]
    device, shape, tile, target, tiles_at_once, **options
):
    case = Case(shape, tile, target, **options)
    network = on_device(device, case.compute, tiles_at_once)
    found = case.labels(network)
    np.testing.assert_array_equal(found, case.labels())


def test_labels_that_are_too_many_come_in_parts(device: CudaDevice) -> None:
    case = Case((3, 4, 5), (3, 4, 5), (9, 1024, 1024))  # a plane takes 2 MiB of 16
    np.testing.assert_array_equal(case.labels(on_device(device, case.compute)), case.labels())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_numbers_are_refused(device: CudaDevice, value: float) -> None:
    case = Case((5, 6, 7), (3, 4, 5), (5, 6, 7))

    def compute(tiles: np.ndarray) -> np.ndarray:
        logits = case.compute(tiles)
        logits[-1, 1, 2, 3, 4] = value
        return logits

    with pytest.raises(BackendError, match="NaN or infinite; run the fp32 variant"):
        case.labels(on_device(device, compute))


def test_what_sums_take_is_known_before(driver: HostDriver) -> None:
    case = Case((5, 9, 70), (3, 4, 40), (7, 12, 90))
    before = driver.used_bytes()
    most = before

    def compute(tiles: np.ndarray) -> np.ndarray:
        nonlocal most
        most = max(most, driver.used_bytes())
        return case.compute(tiles)

    with driver.installed():
        network = on_device(driver.device(), compute)
        driver.limit_memory(before + 1)
        with pytest.raises(BudgetError, match="sums of logits on Host") as refusal:
            case.stream(network)
        driver.limit_memory(0)
        case.labels(network)
    assert 0 < most - before <= refusal.value.least_bytes
    assert driver.used_bytes() == before


def test_a_device_that_computes_right_passes_the_check(device: CudaDevice) -> None:
    check_device_labels(device)


@pytest.mark.parametrize(
    ("kernel", "line", "mistake"),
    [
        ("blend_tile.cu", "__fmul_rn(logit, weight)", "__fmul_rn(logit, weight + 1.0f)"),
        ("blend_tile.cu", "__fdiv_rn(*sum, divisor)", "*sum + divisor"),
        ("label_resample.cu", "label = value > best ? k : label", "label = 0"),
    ],
)
def test_a_device_that_computes_wrong_does_not(
    tmp_path: Path, kernel: str, line: str, mistake: str
) -> None:
    copies = tmp_path / "cuda"
    copies.mkdir()
    for path in (NATIVE / "cuda").glob("*.[ch]*"):
        copies.joinpath(path.name).write_text(path.read_text())
    source = (copies / kernel).read_text()
    assert source.count(line) == 1
    (copies / kernel).write_text(source.replace(line, mistake))
    driver = HostDriver(tmp_path, copies)
    with (
        driver.installed(),
        pytest.raises(BackendError, match=r"\d+ of 4420 labels from Host are not the processor's"),
    ):
        check_device_labels(driver.device())


def test_a_device_that_fails_is_an_error(driver: HostDriver) -> None:
    with driver.installed(), driver.failing("cuStreamSynchronize", 700):
        with pytest.raises(BackendError, match="cuStreamSynchronize failed with A_NAME: a text"):
            check_device_labels(driver.device())
        case = Case((5, 6, 7), (3, 4, 5), (5, 6, 7))
        with pytest.raises(BackendError, match="cuStreamSynchronize failed with A_NAME: a text"):
            case.labels(on_device(driver.device(), case.compute))


def test_without_a_library_of_kernels(driver: HostDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    device = driver.device()
    for path, words in (
        (Path("/none.so"), "library of CUDA kernels given cannot be loaded: /none.so"),
        (Path(driver.library._name), "is not library of CUDA kernels"),
    ):
        monkeypatch.setattr(cuda_library, "cuda_library_path", lambda path=path: path)
        with pytest.raises(BackendError, match=words):
            check_device_labels(device)


def test_what_is_refused_says_why(driver: HostDriver) -> None:
    kernels: Any = single_functions.load_cuda_library(driver.kernels)
    assert kernels.sgmf_blend_tile_cuda(None, None, None) == b"a pointer is NULL"
