"""Errors of a calling program: a status, a message with advice, and a handle still usable."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native.libsgmf import (
    Entry,
    Handle,
    Info,
    OpenOptions,
    Sized,
    labels_of,
    library_path,
    onnxruntime_path,
    volume_of,
)
from support.packages.samples import copy_package, edit_manifest, flip_byte, head_like

SHAPE = (30, 28, 26)


@pytest.fixture
def handle(ct_package: Path) -> Any:
    with Handle(ct_package, memory_budget_mib=64) as opened:
        yield opened


def good_volume(**changes: Any) -> Any:
    return volume_of(head_like(SHAPE)[None], **changes)


def good_labels(**changes: Any) -> Any:
    return labels_of(np.zeros(SHAPE, np.uint8, order="F"), **changes)


def assert_usable(handle: Handle) -> None:
    assert handle.run(good_volume(), good_labels()) == "SGMF_OK", handle.message
    assert handle.message == ""


# Opening ------------------------------------------------------------------------------


def refused(status: str, *words: str, package: Path | None, **options: Any) -> None:
    handle = Handle(package, **options)
    assert handle.opened == status
    assert handle.model.value is None
    for word in words:
        assert word in handle.open_message


def test_a_missing_package(tmp_path: Path) -> None:
    refused("SGMF_NOT_FOUND", "there is no package at", package=tmp_path / "none.sgmf")
    refused("SGMF_INVALID_ARGUMENT", "package_path is NULL", package=None)
    refused("SGMF_PACKAGE_REFUSED", "is no package", package=tmp_path)


def test_a_damaged_package(ct_package: Path, tmp_path: Path) -> None:
    package = copy_package(ct_package, tmp_path)
    flip_byte(package / "fp32.onnx", 100)
    refused("SGMF_PACKAGE_REFUSED", "SHA-256", "export the package again", package=package)


@pytest.mark.parametrize(
    ("version", "remedy"), [("2.0", "install a newer libsgmf"), ("0.3", "export it again")]
)
def test_a_package_of_another_format(
    ct_package: Path, tmp_path: Path, version: str, remedy: str
) -> None:
    package = copy_package(ct_package, tmp_path)
    edit_manifest(package, '"format_version": "1.0"', f'"format_version": "{version}"')
    refused("SGMF_PACKAGE_REFUSED", f"format version {version}", remedy, package=package)


def test_a_network_that_is_none(ct_package: Path, tmp_path: Path) -> None:
    package = copy_package(ct_package, tmp_path)
    content = b"no network"
    (package / "fp32.onnx").write_bytes(content)
    text = (package / "manifest.json").read_text()
    digest = hashlib.sha256(content).hexdigest()
    found = re.search(r'"fp32.onnx": \{\s+"sha256": "\w+",\s+"size": \d+', text)
    assert found is not None
    edit_manifest(package, found[0], f'"fp32.onnx": {{"sha256": "{digest}", "size": 10')
    refused("SGMF_PACKAGE_REFUSED", "fp32.onnx is no ONNX model", package=package)


def test_a_manifest_that_the_network_contradicts(ct_package: Path, tmp_path: Path) -> None:
    package = copy_package(ct_package, tmp_path)
    edit_manifest(package, '"tile": [\n      16,', '"tile": [\n      32,')
    refused("SGMF_BACKEND_FAILED", "(1, 32, 20, 24)", "Export the package", package=package)


def test_a_backend_that_is_not_there(ct_package: Path, tmp_path: Path) -> None:
    status = "SGMF_BACKEND_MISSING"
    known = "it has onnxruntime and tensorrt"
    refused(status, "openvino", known, package=ct_package, backend=b"openvino")
    missing = bytes(tmp_path / "libonnxruntime.so")
    remedy = "install ONNX Runtime 1.18 or later"
    refused(status, remedy, package=ct_package, backend_library=missing)
    other = bytes(library_path())
    refused(status, "is not ONNX Runtime", package=ct_package, backend_library=other)


def test_the_environment_names_the_backend(
    ct_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The C library's own copy of the environment: os.environ reaches it through putenv.
    monkeypatch.setenv("SGMF_ONNXRUNTIME", str(onnxruntime_path()))
    with Handle(ct_package, backend_library=None) as handle:
        assert b"ONNX Runtime" in handle.get("info", Info()).backend
    monkeypatch.setenv("SGMF_ONNXRUNTIME", "/nowhere/libonnxruntime.so")
    refused("SGMF_BACKEND_MISSING", "SGMF_ONNXRUNTIME", package=ct_package, backend_library=None)


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("threads", -1, "threads is -1"),
        ("threads", 100_000, "threads is 100000"),
        ("memory_budget_mib", -1, "memory_budget_mib is -1"),
        ("memory_budget_mib", 2**62, "memory_budget_mib is"),
        ("variant", b"fp8", "it has fp32"),
    ],
)
def test_options_that_mean_nothing(ct_package: Path, option: str, value: Any, word: str) -> None:
    refused("SGMF_INVALID_ARGUMENT", word, package=ct_package, **{option: value})


def test_another_version_of_the_interface(ct_package: Path) -> None:
    for version in (0, 2):
        refused("SGMF_ABI_MISMATCH", f"version {version}", package=ct_package, abi_version=version)


class NewerOptions(Sized):
    """Members that a later header might add."""

    _fields_ = (*OpenOptions._fields_, ("addition", ctypes.c_int64))


def open_with(options: ctypes.Structure) -> tuple[Handle, str]:
    handle = Handle(None)
    message = ctypes.create_string_buffer(512)
    status = handle.library.sgmf_open(
        ctypes.c_uint32(1),
        ctypes.byref(options),
        ctypes.byref(handle.model),
        message,
        ctypes.c_uint64(512),
    )
    handle.opened = handle.name(status)
    return handle, message.value.decode()


def test_structs_of_other_sizes(ct_package: Path) -> None:
    fields = {
        "package_path": str(ct_package).encode(),
        "backend_library": str(onnxruntime_path()).encode(),
    }
    newer, _ = open_with(NewerOptions(**fields))
    with newer:
        assert_usable(newer)
    used, message = open_with(NewerOptions(addition=1, **fields))
    assert used.opened == "SGMF_ABI_MISMATCH"
    assert "install a newer libsgmf" in message
    for size in (0, 8, OpenOptions.trusted_keys.offset - 1):
        options = OpenOptions(**fields)
        options.struct_size = size
        small, message = open_with(options)
        assert small.opened == "SGMF_ABI_MISMATCH"
        assert f"struct_size is {size}" in message


def test_a_newer_struct_is_filled_as_far_as_it_is_known(handle: Handle) -> None:
    class NewerEntry(Sized):
        _fields_ = (*Entry._fields_, ("addition", ctypes.c_int64))

    label = handle.get("label", NewerEntry(addition=-1), 3)
    assert (label.number, label.name, label.addition) == (3, b"organ 3", 0)
    assert label.struct_size == ctypes.sizeof(NewerEntry)


def test_null_everywhere(handle: Handle) -> None:
    library = handle.library
    null = ctypes.c_void_p()
    invalid = "SGMF_INVALID_ARGUMENT"
    size = ctypes.c_uint64(0)
    options = ctypes.byref(OpenOptions(package_path=b"x"))
    assert handle.name(library.sgmf_open(1, options, None, None, size)) == invalid
    model = ctypes.byref(ctypes.c_void_p(7))
    assert handle.name(library.sgmf_open(1, None, model, None, size)) == invalid
    library.sgmf_close(null)
    library.sgmf_cancel(null)
    assert b"NULL" in library.sgmf_message(null)
    for name in ("run", "warm_up", "get_info", "get_statistics", "least_budget"):
        assert handle.name(getattr(library, f"sgmf_{name}")(null, null, null, null)) == invalid
        if name != "warm_up":
            assert handle.call(name, null, null, null) == invalid
            assert "NULL" in handle.message
    for name in ("get_input", "get_label"):
        assert handle.call(name, 0, null) == invalid
    assert handle.run(good_volume(), None) == invalid
    assert_usable(handle)


def test_messages_fit_into_any_buffer(tmp_path: Path) -> None:
    handle = Handle(None)
    options = ctypes.byref(OpenOptions(package_path="/\u00e9\u00e9\u00e9".encode()))
    whole = "there is no package at /\u00e9\u00e9\u00e9".encode()
    for size in range(1, len(whole) + 3):
        buffer = ctypes.create_string_buffer(b"\xff" * 64, 64)
        library = handle.library
        library.sgmf_open(
            ctypes.c_uint32(1), options, ctypes.byref(handle.model), buffer, ctypes.c_uint64(size)
        )
        text = buffer.value
        assert len(text) < size
        assert whole.startswith(text)
        text.decode()
        assert buffer.raw[size:] == (b"\xff" * 64)[size:]


# Running ------------------------------------------------------------------------------

HUGE = 2**62


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"voxels": None}, "SGMF_INVALID_ARGUMENT", "volume.voxels is NULL"),
        ({"element_type": 0}, "SGMF_INVALID_ARGUMENT", "element_type is 0"),
        ({"element_type": 11}, "SGMF_INVALID_ARGUMENT", "element_type is 11"),
        ({"channels": 2}, "SGMF_INPUT_REFUSED", "2 channels; the model expects 1"),
        ({"channels": 0}, "SGMF_INPUT_REFUSED", "0 channels; the model expects 1"),
        ({"channels": HUGE}, "SGMF_INPUT_REFUSED", "in this order: CT"),
        ({"shape": (0, 28, 26)}, "SGMF_INVALID_ARGUMENT", "extent of 0"),
        ({"shape": (-5, 28, 26)}, "SGMF_INVALID_ARGUMENT", "extent of -5"),
        ({"shape": (HUGE, HUGE, HUGE)}, "SGMF_INVALID_ARGUMENT", "larger than memory"),
        (
            {"shape": (HUGE, HUGE, HUGE), "strides": (0, 0, 0, 0)},
            "SGMF_INVALID_ARGUMENT",
            "larger than memory",
        ),
        ({"shape": (31, 28, 26)}, "SGMF_INVALID_ARGUMENT", "size_bytes"),
        ({"size_bytes": 0}, "SGMF_INVALID_ARGUMENT", "has 0 bytes"),
        ({"strides": (1, 1, -1, 1)}, "SGMF_INVALID_ARGUMENT", "negative stride"),
        ({"strides": (1, HUGE, 1, 1)}, "SGMF_INVALID_ARGUMENT", "larger than memory"),
        ({"affine": (0.0,) * 16}, "SGMF_INPUT_REFUSED", "affine"),
        ({"affine": (float("nan"),) * 16}, "SGMF_INPUT_REFUSED", "affine"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "SGMF_INPUT_REFUSED", "beside the affine is 1 x 0 x 1"),
        ({"spacing_mm": (-1.0,) * 3}, "SGMF_INPUT_REFUSED", "expected three numbers above zero"),
        ({"spacing_mm": (float("nan"),) * 3}, "SGMF_INPUT_REFUSED", "beside the affine"),
        (
            {"affine": (*(1.0, 1, 0, 0), *(1, 1, 0, 0), *(0, 0, 1, 0), *(0, 0, 0, 1))},
            "SGMF_INPUT_REFUSED",
            "singular",
        ),
        (
            {"affine": (*(1e9, 0, 0, 0), *(0, 1e9, 0, 0), *(0, 0, 1e9, 0), *(0, 0, 0, 1))},
            "SGMF_INPUT_REFUSED",
            "check its spacing",
        ),
        (
            {"affine": (*(5e3, 0, 0, 0), *(0, 5e3, 0, 0), *(0, 0, 5e3, 0), *(0, 0, 0, 1))},
            "SGMF_INPUT_REFUSED",
            "check its spacing",
        ),
        (
            {"affine": (*(20.0, 0, 0, 0), *(0, 20, 0, 0), *(0, 0, 20, 0), *(0, 0, 0, 1))},
            "SGMF_BUDGET_TOO_SMALL",
            "memory budget",
        ),
    ],
)
def test_volumes_that_cannot_be(
    handle: Handle, changes: dict[str, Any], status: str, word: str
) -> None:
    assert handle.run(good_volume(**changes), good_labels()) == status, handle.message
    assert word in handle.message
    assert_usable(handle)


def test_voxels_that_are_not_aligned(handle: Handle) -> None:
    memory = np.zeros(30 * 28 * 26 * 4 + 1, np.uint8)
    volume = good_volume(voxels=memory.ctypes.data + 1, strides=(0, 0, 0, 0))
    assert handle.run(volume, good_labels()) == "SGMF_INVALID_ARGUMENT"
    assert "not aligned" in handle.message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"labels": None}, "labels.labels is NULL"),
        ({"size_bytes": 30 * 28 * 26 - 1}, "size_bytes"),
        ({"element_type": 2}, "size_bytes"),
        ({"element_type": 9}, "use SGMF_UINT8 or SGMF_UINT16"),
        ({"strides": (1, 30, 2**61)}, "larger than memory"),
        ({"strides": (-1, 30, 840)}, "negative stride"),
    ],
)
def test_label_buffers_that_cannot_be(handle: Handle, changes: dict[str, Any], word: str) -> None:
    assert handle.run(good_volume(), good_labels(**changes)) == "SGMF_INVALID_ARGUMENT"
    assert word in handle.message
    assert_usable(handle)


def test_labels_that_need_two_bytes(region_package: Path) -> None:
    voxels = np.stack([head_like(SHAPE), head_like(SHAPE, 1)])
    with Handle(region_package) as handle:
        assert handle.run(volume_of(voxels), good_labels()) == "SGMF_INVALID_ARGUMENT"
        assert "the largest label is 300: use SGMF_UINT16" in handle.message


def test_intensities_that_are_no_numbers(handle: Handle) -> None:
    voxels = head_like(SHAPE)[None]
    voxels[0, 5, 6, 7] = np.nan
    assert handle.run(volume_of(voxels), good_labels()) == "SGMF_INPUT_REFUSED"
    assert_usable(handle)


def test_a_budget_that_does_not_suffice(ct_package: Path) -> None:
    voxels = np.ones((1, 120, 110, 100), np.float32)
    labels = np.zeros(voxels.shape[1:], np.uint8, order="F")
    least = ctypes.c_int64()
    with Handle(ct_package, memory_budget_mib=2) as handle:
        volume = volume_of(voxels)
        assert handle.run(volume, labels_of(labels)) == "SGMF_BUDGET_TOO_SMALL"
        assert "memory budget" in handle.message
        assert handle.call("least_budget", volume, labels_of(labels), least) == "SGMF_OK"
    enough = -(-least.value // (1 << 20))
    assert f"{enough} MiB" in handle_message(ct_package, voxels, labels)
    with Handle(ct_package, memory_budget_mib=enough) as handle:
        assert handle.run(volume_of(voxels), labels_of(labels)) == "SGMF_OK", handle.message


def handle_message(package: Path, voxels: np.ndarray, labels: np.ndarray) -> str:
    with Handle(package, memory_budget_mib=2) as handle:
        handle.run(volume_of(voxels), labels_of(labels))
        return handle.message


def test_the_least_budget_needs_no_memory(handle: Handle) -> None:
    least = ctypes.c_int64()
    shape = (512, 512, 600)
    volume = good_volume(voxels=None, size_bytes=0, shape=shape, strides=(0, 0, 0, 0))
    labels = good_labels(labels=None, size_bytes=0)
    assert handle.call("least_budget", volume, labels, least) == "SGMF_OK", handle.message
    assert least.value > 5 * 512 * 512 * 600


OUT_OF_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from pathlib import Path
from support.native.libsgmf import Handle, labels_of, volume_of
from support.packages.samples import head_like
with Handle(Path(sys.argv[2]), memory_budget_mib=100_000) as handle:
    small = head_like((30, 28, 26))[None]
    marked = np.zeros((30, 28, 26), np.uint8, order="F")
    assert handle.run(volume_of(small), labels_of(marked)) == "SGMF_OK"
    voxels = np.zeros((1, 400, 400, 300), np.uint8)
    voxels[0, ::7] = 9
    labels = np.zeros(voxels.shape[1:], np.uint8, order="F")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), resource.RLIM_INFINITY))
    print(handle.run(volume_of(voxels), labels_of(labels)), "|", handle.message)
    print(handle.run(volume_of(small), labels_of(marked)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")
def test_memory_that_the_system_does_not_give(ct_package: Path) -> None:
    tests = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(tests), str(ct_package)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tests,
    )
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith("SGMF_OUT_OF_MEMORY | the system gave no more memory")
    assert second == "SGMF_OK"


# Stopping -----------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_the_callback_asks_to_stop(handle: Handle, stop_at: int) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, count: int) -> int:
        seen.append((done, count))
        return int(done == stop_at)

    assert handle.run(good_volume(), good_labels(), progress) == "SGMF_CANCELLED"
    assert [done for done, _ in seen] == [*range(stop_at + 1)]
    assert "stop" in handle.message or "cancel" in handle.message
    assert_usable(handle)


def test_progress_counts_every_tile(handle: Handle) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, count: int) -> int:
        seen.append((done, count))
        return 0

    assert handle.run(good_volume(), good_labels(), progress) == "SGMF_OK"
    count = seen[0][1]
    assert seen == [(done, count) for done in range(count + 1)]


@pytest.mark.usefixtures("every_processor")
def test_another_thread_cancels(handle: Handle) -> None:
    started = threading.Event()
    cancelled = threading.Event()

    def progress(done: int, count: int) -> int:
        if done == 1:
            started.set()
            assert cancelled.wait(10)
        return 0

    def cancel() -> None:
        assert started.wait(10)
        handle.cancel()
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    status = handle.run(good_volume(), good_labels(), progress)
    thread.join()
    assert status == "SGMF_CANCELLED"
    assert_usable(handle)


def test_cancelling_without_a_run_does_nothing(handle: Handle) -> None:
    handle.cancel()
    assert_usable(handle)


def test_a_handle_is_busy_while_it_runs(handle: Handle) -> None:
    calls: dict[str, Callable[[], str]] = {
        "run": lambda: handle.run(good_volume(), good_labels()),
        "get_info": lambda: handle.call("get_info", Info()),
        "warm_up": lambda: handle.call("warm_up"),
    }
    statuses: list[str] = []

    def progress(done: int, count: int) -> int:
        if done == 0:
            statuses.extend(call() for call in calls.values())
        return 0

    assert handle.run(good_volume(), good_labels(), progress) == "SGMF_OK"
    assert statuses == ["SGMF_BUSY"] * 3
