"""The CUDA kernels against the definition in float64: on the processor, and on a GPU if there is.

On the processor the very sources of the library run over ``cuda_on_host``. That shows the
arithmetic, the indices, the plan, and that every barrier is there: threads run one after the
other from barrier to barrier, first to last or last to first, over shared memory full of NaN. It
cannot show what only a device has: warps and blocks that really run at once and the order in which
they see each other's writes, alignment, the rounding of its own functions, and speed.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native import single_functions
from support.native.native_builds import NATIVE
from support.scans.scan_cases import (
    OPTIONAL,
    ROUNDING,
    assert_close,
    make_inputs,
    reference,
    run_scan,
)
from support.stand_ins.device_library import compile_on_host
from support.stand_ins.gpu_fakes import FakeDriver

from segmaformer.runtime.bindings import op_library
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver, Stream
from segmaformer.runtime.bindings.kernel_structs import FLOAT16, FLOAT32, SelectiveScanArgs
from segmaformer.runtime.errors import BackendError

KERNEL = NATIVE / "cuda/selective_scan_kernel.cuh"

STATES = (1, 4, 8, 16, 20, 32, 64, 256)
CHANNELS = (1, 5, 33, 130)
LENGTHS = (1, 15, 17, 400)
JETSON, LARGE = 8, 132  # multiprocessors
FLAGS = list(itertools.product((False, True), repeat=5))

Run = Callable[[SelectiveScanArgs], None]


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compile_on_host(tmp_path_factory.mktemp("cuda"), "-O2")


def chunk_bytes(args: SelectiveScanArgs) -> int:
    """Return the scratch memory of one chunk: the states, and the sum of steps."""
    return 4 * args.batch * args.channels * (args.states + 1)


def chunks_of(library: ctypes.CDLL, processors: int, args: SelectiveScanArgs) -> int:
    size = library.sgmf_selective_scan_cuda_workspace(ctypes.byref(args), processors)
    assert size % chunk_bytes(args) == 0
    return max(1, size // chunk_bytes(args))


def run_on_host(
    library: ctypes.CDLL,
    args: SelectiveScanArgs,
    *,
    processors: int = LARGE,
    descending: bool = False,
    most_chunks: int = 1 << 20,
) -> None:
    library.cuda_on_host_descending(descending)
    size = library.sgmf_selective_scan_cuda_workspace(ctypes.byref(args), processors)
    size = min(size, most_chunks * chunk_bytes(args))
    memory = np.full(size // 4 + 8, np.nan, np.float32)
    start = -memory.ctypes.data % 16
    end = memory[(start + size) // 4 :]
    error = library.sgmf_selective_scan_cuda(
        ctypes.byref(args), memory.ctypes.data + start if size else None, size, processors, None
    )
    if error:
        raise ValueError(error.decode())
    assert np.isnan(end).all()


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("states", STATES)
def test_shapes_types_and_thread_orders(on_host: ctypes.CDLL, states: int, channels: int) -> None:
    for length in LENGTHS:
        case = STATES.index(states) * 7 + LENGTHS.index(length) * 3 + channels
        softplus, reverse, *given = FLAGS[case % 32]
        optional = tuple(itertools.compress(OPTIONAL, given))
        inputs = make_inputs(length, channels, states, optional=optional, softplus=softplus)
        expected = reference(inputs, softplus=softplus, reverse=reverse)
        processors = (JETSON, LARGE)[case % 2]
        options = {"softplus": softplus, "reverse": reverse, "element_type": case % 3}
        found = [
            run_scan(
                partial(run_on_host, on_host, processors=processors, descending=descending),
                inputs,
                **options,
            )
            for descending in (False, True)
        ]
        assert_close(found[0], expected, case % 3)
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("flags", FLAGS)
def test_every_combination_of_options(on_host: ctypes.CDLL, flags: tuple[bool, ...]) -> None:
    softplus, reverse = flags[:2]
    optional = tuple(itertools.compress(OPTIONAL, flags[2:]))
    inputs = make_inputs(400, 9, 5, optional=optional, softplus=softplus, batch=2)
    expected = reference(inputs, softplus=softplus, reverse=reverse)
    for element_type in ROUNDING:
        found = run_scan(
            partial(run_on_host, on_host),
            inputs,
            softplus=softplus,
            reverse=reverse,
            element_type=element_type,
        )
        assert_close(found, expected, element_type)


@pytest.mark.parametrize("reverse", [False, True])
def test_any_number_of_chunks(on_host: ctypes.CDLL, reverse: bool) -> None:
    """Test lengths from none to more than the second pass takes at once."""
    inputs = make_inputs(16800, 1, 3, optional=OPTIONAL, batch=2)
    expected = reference(inputs, softplus=True, reverse=reverse)
    for most_chunks in (0, 1, 2, 3, 17, 128, 1 << 20):
        run = partial(run_on_host, on_host, most_chunks=most_chunks)
        assert_close(run_scan(run, inputs, softplus=True, reverse=reverse), expected)


def test_agrees_with_the_cpu_kernel(on_host: ctypes.CDLL) -> None:
    inputs = make_inputs(2000, 24, 16, optional=OPTIONAL)
    found, expected = (
        run_scan(run, inputs, softplus=True)
        for run in (partial(run_on_host, on_host), op_library.run_selective_scan)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_softplus_and_gate_in_their_tails(on_host: ctypes.CDLL) -> None:
    inputs = make_inputs(41, 1, 1, optional=("z",))
    inputs["delta"] = np.linspace(-100, 100, 41, dtype=np.float32).reshape(1, 41, 1)
    inputs["z"] = inputs["delta"][:, ::-1].copy()
    inputs["A"][:] = -1.0
    found = run_scan(partial(run_on_host, on_host), inputs, softplus=True)
    expected, _ = reference(inputs, softplus=True)
    np.testing.assert_allclose(found, expected, rtol=6e-6, atol=1e-32)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_nan_stays_nan(on_host: ctypes.CDLL, name: str) -> None:
    inputs = make_inputs(20, 18, 5, optional=OPTIONAL)
    inputs[name].flat[0] = np.nan
    found = run_scan(partial(run_on_host, on_host), inputs, softplus=True)
    assert np.isnan(found[0, 0, 0])
    if name != "B":  # B reaches every channel and every later token
        assert np.isfinite(found[0, 19 if name == "C" else 0, 1])


def reserve(tokens: int, width: int) -> np.ndarray:
    """Return float16 zeros that take no memory until they are written to."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    memory = mmap.mmap(-1, tokens * width * 2, flags=flags)
    return np.frombuffer(memory, np.float16).reshape(tokens, width)


def test_tensors_beyond_32_bit_indices(on_host: ctypes.CDLL) -> None:
    """The last block of a scan over 2.3 thousand million elements."""
    batch, length, channels, states, panel = 70_000, 4, 8192, 4, 128
    inputs = make_inputs(length, panel, states)
    expected = reference(inputs, softplus=True)
    arrays = {name: reserve(batch * length, channels) for name in ("u", "delta", "y")}
    arrays |= {name: reserve(batch * length, states) for name in ("B", "C")}
    for name, values in inputs.items():
        if name != "A":
            arrays[name][-length:, -values.shape[2] :] = values[0]
    arrays["A"] = np.zeros((channels, states), np.float32)
    arrays["A"][-panel:] = inputs["A"]
    args = SelectiveScanArgs(
        element_type=FLOAT16,
        delta_softplus=1,
        batch=batch,
        length=length,
        channels=channels,
        states=states,
        **{name: array.ctypes.data for name, array in arrays.items()},
    )
    on_host.cuda_on_host_first_block(batch * channels // panel - 1)
    try:
        run_on_host(on_host, args)
    finally:
        on_host.cuda_on_host_first_block(0)
    found = arrays["y"][-length:, -panel:].astype(np.float32)[None]
    assert_close(found, expected, FLOAT16)
    assert not arrays["y"][-length:, :-panel].any()


@pytest.mark.parametrize(
    ("sizes", "processors", "least", "most"),
    [
        ((1, 32768, 64, 16), JETSON, 30, 200),
        ((1, 32768, 64, 16), LARGE, 900, 1024),
        ((1, 262144, 96, 16), LARGE, 760, 6 * LARGE),  # six blocks of three warps at once
        ((1, 262144, 96, 16), JETSON, 44, 6 * JETSON),
        ((64, 4096, 1024, 16), LARGE, 1, 1),
        ((1, 95, 64, 16), LARGE, 1, 1),
    ],
)
def test_batch_one_fills_the_device(
    on_host: ctypes.CDLL, sizes: tuple[int, ...], processors: int, least: int, most: int
) -> None:
    batch, length, channels, states = sizes
    args = SelectiveScanArgs(batch=batch, length=length, channels=channels, states=states)
    assert least <= chunks_of(on_host, processors, args) <= most


@pytest.mark.parametrize(
    "change", [{"states": 0}, {"states": 257}, {"batch": -1}, {"length": 0}, {"channels": 0}]
)
def test_refused_and_empty_sizes_need_no_workspace(
    on_host: ctypes.CDLL, change: dict[str, int]
) -> None:
    sizes = {"batch": 1, "length": 100000, "channels": 8, "states": 8}
    whole, changed = SelectiveScanArgs(**sizes), SelectiveScanArgs(**(sizes | change))
    assert on_host.sgmf_selective_scan_cuda_workspace(ctypes.byref(whole), LARGE)
    assert not on_host.sgmf_selective_scan_cuda_workspace(ctypes.byref(changed), LARGE)
    assert not on_host.sgmf_selective_scan_cuda_workspace(ctypes.byref(whole), 0)


@pytest.mark.parametrize(
    ("change", "workspace", "processors", "message"),
    [
        ({"states": 257}, (16, 0), 8, "between 1 and 256"),
        ({"u": None}, (16, 0), 8, "NULL"),
        ({}, (None, 64), 8, "workspace may not be NULL"),
        ({}, (24, 64), 8, "aligned to 16"),
        ({}, (16, 0), 0, "multiprocessors"),
        ({"batch": 1 << 31, "channels": 1 << 10}, (16, 0), 8, "more blocks"),
        ({"length": 1 << 31}, (16, 0), 8, "may not exceed"),
        ({"channels": 1 << 31}, (16, 0), 8, "may not exceed"),
    ],
)
def test_refuses_wrong_arguments(
    on_host: ctypes.CDLL,
    change: dict[str, Any],
    workspace: tuple[int | None, int],
    processors: int,
    message: str,
) -> None:
    fields = dict.fromkeys(("u", "delta", "A", "B", "C", "y"), 16)
    args = SelectiveScanArgs(
        **({"batch": 1, "length": 4, "channels": 3, "states": 2} | fields | change)
    )
    error = on_host.sgmf_selective_scan_cuda(ctypes.byref(args), *workspace, processors, None)
    assert message in error.decode()


@pytest.mark.parametrize("empty", ["batch", "length", "channels"])
def test_nothing_to_do(on_host: ctypes.CDLL, empty: str) -> None:
    sizes = {"batch": 2, "length": 3, "channels": 4, "states": 4, empty: 0}
    args = SelectiveScanArgs(**sizes)
    assert on_host.sgmf_selective_scan_cuda(ctypes.byref(args), None, 0, 8, None) is None


BARRIER = "    __syncthreads();\n"


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        (BARRIER + "    const float* projections", "    const float* projections"),
        (BARRIER + "    if (write_y) store", "    if (write_y) store"),
        (BARRIER + "    float start = carry;", "    float start = carry;"),
        ("if (lane == 0) staged->y", "if (lane == 0) __syncthreads(), staged->y"),
        ("float*>(tokens + tile_tokens", "float*>(tokens + 2 * tile_tokens"),
    ],
    ids=["staged", "advanced", "carried", "divergent", "behind"],
)
def test_mistakes_are_found(tmp_path: Path, line: str, mistake: str) -> None:
    """A lost barrier, one that not all threads reach, and a write behind shared memory."""
    source = KERNEL.read_text()
    assert source.count(line) == 1
    copies = tmp_path / "cuda"
    copies.mkdir()
    for path in KERNEL.parent.glob("*.[ch]*"):
        (copies / path.name).write_text(path.read_text())
    (copies / KERNEL.name).write_text(source.replace(line, mistake))
    library = compile_on_host(tmp_path, "-O0", copies)
    inputs = make_inputs(2500, 5, 20, optional=OPTIONAL)
    expected = reference(inputs, softplus=True)

    def check(descending: bool) -> None:
        run = partial(run_on_host, library, descending=descending)
        assert_close(run_scan(run, inputs, softplus=True), expected)

    with pytest.raises((AssertionError, ValueError)):  # noqa: PT012  (either order may do)
        check(descending=False)
        check(descending=True)


@pytest.fixture(params=["GPU", "stand-in"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaDevice]:
    """Find a GPU with the installed library, or the stand-in for both."""
    if request.param == "stand-in":
        library = request.getfixturevalue("on_host")
        monkeypatch.setattr(single_functions, "cuda_library", lambda: library)
        yield CudaDevice(CudaDriver(FakeDriver(memory_bytes=1 << 30)))
        return
    try:
        single_functions.cuda_library()
        yield CudaDevice()
    except BackendError as error:
        pytest.skip(str(error))


def element_bytes(args: SelectiveScanArgs) -> int:
    return 4 if args.element_type == FLOAT32 else 2


def tensor_bytes(args: SelectiveScanArgs) -> dict[str, int]:
    tokens = args.batch * args.length * element_bytes(args)
    sequences = dict.fromkeys(("u", "delta", "z", "y"), tokens * args.channels)
    projections = dict.fromkeys(("B", "C"), tokens * args.states)
    vectors = dict.fromkeys(("D", "delta_bias"), 4 * args.channels)
    return {**sequences, **projections, **vectors, "A": 4 * args.channels * args.states}


def run_on_device(device: CudaDevice, host: SelectiveScanArgs) -> None:
    """Run arguments in host memory on a device."""
    stream = Stream(device)
    args = SelectiveScanArgs.from_buffer_copy(host)
    held: dict[str, Any] = {}
    for name, size in tensor_bytes(host).items():
        address = getattr(host, name)
        if not address:
            continue
        pinned, memory = device.allocate_pinned((-(-size // 4),)), device.allocate(size)
        ctypes.memmove(pinned.address, address, size)
        stream.copy_in(memory, pinned, size)
        setattr(args, name, memory.address)
        held[name] = pinned, memory
    stream.synchronize()
    processors = device.facts.processors
    library = single_functions.cuda_library()
    size = library.sgmf_selective_scan_cuda_workspace(ctypes.byref(args), processors)
    workspace = device.allocate(size + 16)
    aligned = workspace.address + -workspace.address % 16
    scan = "sgmf_selective_scan_cuda", ctypes.byref(args)
    single_functions.enqueue(library, *scan, aligned, size, processors, stream.handle)
    pinned, memory = held["y"]
    y_bytes = tensor_bytes(host)["y"]
    stream.copy_out(pinned, memory, y_bytes)
    stream.synchronize()
    ctypes.memmove(host.y, pinned.address, y_bytes)


@pytest.mark.parametrize("element_type", ROUNDING)
@pytest.mark.parametrize(
    ("sizes", "reverse"), [((2, 700, 33, 16), False), ((1, 513, 96, 20), True), ((3, 40, 5, 1), 0)]
)
def test_on_device_memory(
    device: CudaDevice, sizes: tuple[int, ...], reverse: bool, element_type: int
) -> None:
    batch, length, channels, states = sizes
    inputs = make_inputs(length, channels, states, optional=OPTIONAL, batch=batch)
    run: Run = partial(run_on_device, device)
    options = {"softplus": True, "reverse": bool(reverse), "element_type": element_type}
    found = run_scan(run, inputs, **options)
    assert_close(found, reference(inputs, softplus=True, reverse=bool(reverse)), element_type)
