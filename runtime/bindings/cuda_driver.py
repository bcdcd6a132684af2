"""Functions of the CUDA driver that a session needs, through ctypes.

``libcuda`` comes with every NVIDIA driver, on a Jetson as well, so memory on the device, pinned
memory and streams need no package. Every resource is freed with the object that holds it.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.system.memory import MIB

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
DRIVER_VERSIONS = (
    Path("/sys/module/nvidia/version"),  # discrete GPUs, and Jetson since JetPack 6
    Path("/etc/nv_tegra_release"),
)

_OUT_OF_MEMORY = 2
_MAJOR, _MINOR, _PROCESSORS, _INTEGRATED = 75, 76, 16, 18  # CU_DEVICE_ATTRIBUTE_*
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_WITHOUT_TIMING = 2  # CU_EVENT_DISABLE_TIMING
_NAME_BYTES = 256


class CudaDriver:
    """The loaded and initialised driver.

    Parameters
    ----------
    library
        Library ``libcuda``, or a stand-in.

    Attributes
    ----------
    path
        Of the library, by which native code finds the same.

    Raises
    ------
    BackendError
        The driver finds no usable device; the message has CUDA's own text.
    """

    def __init__(self, library: Any):
        self._library = library
        self.path: str = library._name  # noqa: SLF001 -- public, by ctypes
        try:
            self.call("cuInit", ctypes.c_uint(0))
        except CudaError as error:
            raise BackendError(
                f"{error}. The driver is installed and finds no GPU that it can use: check "
                "CUDA_VISIBLE_DEVICES, the permissions of /dev/nvidia*, and that the kernel's "
                "module is of the same release"
            ) from None

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises
        ------
        BackendError
            The function failed; the message has its name, and CUDA's name and text of the error.
        """
        code = getattr(self._library, function)(*arguments)
        if code:
            raise CudaError(function, code, self._text(code))

    def number(self, function: str, kind: Any, *arguments: Any) -> int:
        """Call a function that writes a number of the ctypes type `kind` to its first argument."""
        value = kind()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value or 0

    @property
    def version(self) -> str:
        """CUDA version that the driver supports, such as ``12.6``."""
        number = self.number("cuDriverGetVersion", ctypes.c_int)
        return f"{number // 1000}.{number % 1000 // 10}"

    def _text(self, code: int) -> str:
        texts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            getattr(self._library, function)(ctypes.c_int(code), ctypes.byref(text))
            texts.append((text.value or b"unknown").decode(errors="replace"))
        return f"{texts[0]}: {texts[1]}"


class CudaError(BackendError):
    """A function of the driver failed.

    Parameters
    ----------
    function, code, text
        Name of the function, number of the error and CUDA's text.
    """

    def __init__(self, function: str, code: int, text: str):
        super().__init__(f"the NVIDIA driver's {function} failed with {text}")
        self.code, self.text = code, text


@functools.cache
def load_driver() -> CudaDriver:
    """Load the driver of this machine.

    Raises
    ------
    BackendError
        There is no driver, or it finds no device.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendError(
            f"there is no NVIDIA driver here ({error}); install one, or choose another --backend"
        ) from None
    return CudaDriver(library)


def has_nvidia_driver() -> bool:
    """Tell if this machine has a driver at all, working or not."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def driver_release() -> str | None:
    """Return the release of the installed driver, such as ``570.124.06``; None if unknown."""
    for path in DRIVER_VERSIONS:
        try:
            return path.read_text(encoding="ascii", errors="replace").splitlines()[0].strip()
        except (OSError, IndexError):
            continue
    return None


@dataclass(frozen=True)
class DeviceFacts:
    """Properties of a device.

    Attributes
    ----------
    compute_capability
        Version such as ``8.7``.
    integrated
        Whether its memory is the processor's own, as on a Jetson.
    """

    name: str
    compute_capability: str
    processors: int
    memory_bytes: int
    integrated: bool


class CudaDevice:
    """The first device that the driver shows, ready for work.

    ``CUDA_VISIBLE_DEVICES`` decides which is the first.

    Parameters
    ----------
    driver
        Driver to use; None calls :func:`load_driver`.

    Raises
    ------
    BackendError
        There is no driver or no device.
    """

    def __init__(self, driver: CudaDriver | None = None):
        self.driver = driver or load_driver()
        if self.driver.number("cuDeviceGetCount", ctypes.c_int) < 1:
            raise BackendError("the NVIDIA driver shows no device; check CUDA_VISIBLE_DEVICES")
        device = self.driver.number("cuDeviceGet", ctypes.c_int, ctypes.c_int(0))
        self.facts = self._facts(device)
        self._context = ctypes.c_void_p()
        handle = ctypes.c_int(device)
        self.driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), handle)
        weakref.finalize(self, self.driver.call, "cuDevicePrimaryCtxRelease_v2", handle)
        self.activate()

    def activate(self) -> None:
        """Make the device current for the calling thread."""
        self.driver.call("cuCtxSetCurrent", self._context)

    def free_bytes(self) -> int:
        """Return the number of bytes of device memory that are free now."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> DeviceMemory:
        """Allocate `size` bytes on the device.

        Raises
        ------
        BackendError
            There is too little memory; the message states the size and the free memory.
        """
        try:
            address = self.driver.number("cuMemAlloc_v2", ctypes.c_uint64, ctypes.c_size_t(size))
        except CudaError as error:
            raise self._explained(error, size) from None
        return DeviceMemory(self, address, size)

    def allocate_pinned(self, shape: tuple[int, ...]) -> PinnedArray:
        """Allocate a float32 array in host memory that the device copies from and to directly."""
        size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        try:
            address = self.driver.number(
                "cuMemHostAlloc", ctypes.c_void_p, ctypes.c_size_t(size), ctypes.c_uint(0)
            )
        except CudaError as error:
            raise self._explained(error, size) from None
        return PinnedArray(self, address, shape)

    def _explained(self, error: CudaError, size: int) -> BackendError:
        if error.code != _OUT_OF_MEMORY:
            return error
        return BackendError(
            f"{self.facts.name} has too little memory: {-(-size // MIB)} MiB were asked for, "
            f"{self.free_bytes() // MIB} of {self.facts.memory_bytes // MIB} MiB are free. End "
            "other programs on the device, or build with a smaller --batch"
        )

    def _facts(self, device: int) -> DeviceFacts:
        handle = ctypes.c_int(device)
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self.driver.call("cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), handle)

        def attribute(which: int) -> int:
            return self.driver.number(
                "cuDeviceGetAttribute", ctypes.c_int, ctypes.c_int(which), handle
            )

        return DeviceFacts(
            name=name.value.decode(errors="replace"),
            compute_capability=f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
            processors=attribute(_PROCESSORS),
            memory_bytes=self.driver.number("cuDeviceTotalMem_v2", ctypes.c_size_t, handle),
            integrated=bool(attribute(_INTEGRATED)),
        )


class DeviceMemory:
    """Memory on a device; made by :meth:`CudaDevice.allocate`."""

    def __init__(self, device: CudaDevice, address: int, size: int):
        self.address, self.size = address, size
        free = ctypes.c_uint64(address)
        self._free = weakref.finalize(self, _free, device, "cuMemFree_v2", free)


class PinnedArray:
    """Pinned host memory; made by :meth:`CudaDevice.allocate_pinned`.

    Attributes
    ----------
    array
        Array of the memory; valid as long as this object.
    """

    def __init__(self, device: CudaDevice, address: int, shape: tuple[int, ...]):
        self.address = address
        count = int(np.prod(shape))
        content = (ctypes.c_float * count).from_address(address)
        self.array = np.ctypeslib.as_array(content).reshape(shape)
        free = ctypes.c_void_p(address)
        self._free = weakref.finalize(self, _free, device, "cuMemFreeHost", free)


class Stream:
    """Queue of work that the device does in order, beside that of other streams."""

    def __init__(self, device: CudaDevice):
        self._driver = device.driver
        flags = ctypes.c_uint(_NON_BLOCKING)
        self.handle = self._driver.number("cuStreamCreate", ctypes.c_void_p, flags)
        stream = ctypes.c_void_p(self.handle)
        weakref.finalize(self, _free, device, "cuStreamDestroy_v2", stream)

    def copy_in(self, target: DeviceMemory, source: PinnedArray, size: int) -> None:
        """Queue a copy of the first `size` bytes to the device."""
        self._driver.call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(target.address),
            ctypes.c_void_p(source.address),
            ctypes.c_size_t(size),
            ctypes.c_void_p(self.handle),
        )

    def copy_out(self, target: PinnedArray, source: DeviceMemory, size: int) -> None:
        """Queue a copy of the first `size` bytes from the device."""
        self._driver.call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(target.address),
            ctypes.c_uint64(source.address),
            ctypes.c_size_t(size),
            ctypes.c_void_p(self.handle),
        )

    def record(self, event: Event) -> None:
        """Trigger `event` when the work so far is done."""
        self._driver.call("cuEventRecord", event.handle, ctypes.c_void_p(self.handle))

    def wait_for(self, event: Event) -> None:
        """Let later work wait for `event`."""
        stream = ctypes.c_void_p(self.handle)
        self._driver.call("cuStreamWaitEvent", stream, event.handle, ctypes.c_uint(0))

    def synchronize(self) -> None:
        """Wait until all work is done.

        Raises
        ------
        BackendError
            Some of the work failed.
        """
        self._driver.call("cuStreamSynchronize", ctypes.c_void_p(self.handle))


class Event:
    """A point in a stream's work."""

    def __init__(self, device: CudaDevice):
        flags = ctypes.c_uint(_WITHOUT_TIMING)
        self.handle = ctypes.c_void_p(device.driver.number("cuEventCreate", ctypes.c_void_p, flags))
        weakref.finalize(self, _free, device, "cuEventDestroy_v2", self.handle)


def _free(device: CudaDevice, function: str, handle: Any) -> None:
    """Free a resource when its owner is gone; the device is kept alive until then."""
    device.activate()
    device.driver.call(function, handle)
