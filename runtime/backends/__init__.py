"""Inference backends: each opens a package's variant and runs tiles.

There is no silent fallback: a backend that is missing or fails is an error, and ``auto`` names its
choice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from segmaformer.runtime.backends.session import (
    DEVICES,
    BackendOptions,
    CoarseNetwork,
    Device,
    NetworkKind,
    Session,
    run_checked,
)
from segmaformer.runtime.bindings.cuda_driver import has_nvidia_driver
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.progress import Report

__all__ = [
    "DEVICES",
    "ON_GPU",
    "Backend",
    "BackendOptions",
    "CoarseNetwork",
    "Device",
    "NetworkKind",
    "Session",
    "backend_names",
    "backends",
    "find_backend",
    "first_variant",
    "open_session",
    "run_checked",
]

EVERYWHERE = "onnxruntime"
"""Backend that ``auto`` uses if no other works, and compares the others with."""

ON_GPU = ("fp16", EXACT_VARIANT)
"""Variants that suit a GPU, best first; int8 is judged on scans and only used by name."""


@dataclass(frozen=True)
class Backend:
    """One software and device to run networks.

    Attributes
    ----------
    name, device
        Values of ``--backend`` and ``--device``.
    open
        Function that opens a variant of a package.
    missing
        Returns why nothing can run on this machine, found without a package; None if it may.
    preferred
        Variants, best first; the first that the package has is used.
    suits
        Variants that ``auto`` tries on it; None for all.
    tests_itself
        Whether opening it includes the self-test.
    needs_device
        Whether it is only chosen with ``--device``, since its name alone means another device.
    identify
        Returns the identity of a session before it is opened. With it, ``auto`` takes the backend
        only where it was timed to be faster than :data:`EVERYWHERE`.
    """

    name: str
    device: Device
    open: Callable[[Package, str, BackendOptions], Session]
    missing: Callable[[], str | None]
    preferred: tuple[str, ...] = (EXACT_VARIANT,)
    suits: tuple[str, ...] | None = None
    tests_itself: bool = False
    needs_device: bool = False
    identify: Callable[[Package, str, BackendOptions], str] | None = None

    @property
    def label(self) -> str:
        """Command-line option that chooses it."""
        return f"{self.name} --device {self.device}" if self.needs_device else self.name

    def best_variant(self, package: Package) -> str:
        """Return the variant that is opened by default."""
        return first_variant(package, self.preferred)


def first_variant(package: Package, preferred: tuple[str, ...]) -> str:
    """Return the first of `preferred` in a package; :data:`EXACT_VARIANT` is in every one."""
    return next(name for name in preferred if name in package.manifest.variants)


def backends() -> tuple[Backend, ...]:
    """List every backend, in the order of ``auto``, which never tries ``openvino-bf16``.

    ``onnxruntime`` runs everywhere and comes last; docs/reference/hardware.md has its times for a
    tile, and OpenVINO's.
    """
    return (
        Backend(
            "tensorrt",
            "cuda",
            _later("tensorrt.tensorrt", "open_tensorrt"),
            _later("tensorrt.library", "what_is_missing"),
            ON_GPU,
        ),
        Backend(
            "tensorrt-rtx",
            "cuda",
            _later("tensorrt.rtx", "open_rtx"),
            _later("tensorrt.rtx", "what_is_missing"),
            ON_GPU,
        ),
        Backend(
            EVERYWHERE,
            "cuda",
            _later("onnxruntime_cuda", "open_tested"),
            _later("onnxruntime_cuda", "what_is_missing"),
            tests_itself=True,
            needs_device=True,
        ),
        Backend(
            "openvino",
            "cpu",
            _later("openvino", "open_tested"),
            _later("openvino", "what_is_missing"),
            suits=(EXACT_VARIANT, "fp16"),
            tests_itself=True,
            identify=_later("openvino", "identify"),
        ),
        Backend(
            "openvino-bf16",
            "cpu",
            _later("openvino", "open_bfloat16"),
            _later("openvino", "what_is_missing"),
            suits=(),
            tests_itself=True,
        ),
        Backend(EVERYWHERE, "cpu", _later("onnxruntime_cpu", "OnnxRuntimeSession"), lambda: None),
    )


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function of a module of this folder that is imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arguments)

    return call


def backend_names() -> list[str]:
    """List the names that :func:`open_session` takes."""
    return list(dict.fromkeys(["auto", *(backend.name for backend in backends())]))


def find_backend(name: str, device: Device | None) -> Backend | None:
    """Find the backend of a name on a device; None for ``auto``.

    Parameters
    ----------
    name, device
        As for :func:`open_session`. A name without a device means its backend on the CPU, if there
        is one.

    Raises
    ------
    ValueError
        There is no such backend, or it does not run on the device.
    """
    return None if name == "auto" else _find(name, device)


def _find(name: str, device: Device | None) -> Backend:
    found = [backend for backend in backends() if backend.name == name]
    if not found:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(backend_names())}")
    for backend in found:
        if device == backend.device or (device is None and not backend.needs_device):
            return backend
    raise ValueError(f"the backend {name} runs on {found[0].device}, not on {device}")


def open_session(
    package: Package,
    *,
    backend: str = "auto",
    variant: str | None = None,
    options: BackendOptions = BackendOptions(),  # noqa: B008  (frozen)
    report: Report = lambda line: None,
) -> Session:
    """Open one variant of a package.

    Parameters
    ----------
    package
        A checked package.
    backend
        One of :func:`backend_names`. ``auto`` uses the best that passes a self-test, see
        :mod:`segmaformer.runtime.backends.self_test`.
    variant
        Name such as ``fp32`` or ``fp16``; None uses the backend's preferred one, float32 on a CPU.
    options
        Device, number of threads and whether to use the op library.
    report
        Called with a line for every backend that ``auto`` skips although it is installed or there
        is a GPU for it.

    Raises
    ------
    ValueError
        The package has no such variant, or there is no such backend on the device.
    BackendError
        The backend cannot open the network.
    """
    chosen = find_backend(backend, options.device)
    if variant is not None and variant not in package.manifest.variants:
        has = ", ".join(package.manifest.variants)
        raise ValueError(f"{package.path} has no variant {variant!r}; it has {has}")
    if chosen is None:
        return _open_best(package, variant, options, report)
    return chosen.open(package, variant or chosen.best_variant(package), options)


def _open_best(
    package: Package,
    variant: str | None,
    options: BackendOptions,
    report: Report,
) -> Session:
    """Open the best backend that works: of a GPU, if there is one, then of the CPU."""
    everywhere = _find(EVERYWHERE, "cpu")
    candidates = _candidates(backends(), package, variant, options)
    passed_over: list[str] = []
    best = None
    if candidates:
        from segmaformer.runtime.backends.self_test import open_best

        best = open_best(
            package,
            variant,
            options,
            candidates=candidates,
            open_reference=lambda: everywhere.open(package, EXACT_VARIANT, options),
            report=passed_over.append,
        )
    if best is None and options.device == "cuda":
        raise BackendError(f"no backend works on cuda here: {'; '.join(passed_over)}")
    for line in passed_over:
        report(line)
    return best or everywhere.open(package, variant or everywhere.best_variant(package), options)


def _candidates(
    known: Sequence[Backend], package: Package, variant: str | None, options: BackendOptions
) -> list[Backend]:
    """List the backends that ``auto`` tries before the one that runs everywhere.

    OpenVINO is an extra, so its absence is not reported. It is tried for float32 networks: other
    variants for a CPU are written for ONNX Runtime.
    """
    wanted = list[Backend]()
    if options.device == "cuda" or (options.device is None and has_nvidia_driver()):
        wanted += [backend for backend in known if backend.device == "cuda"]
    exact = variant in (None, EXACT_VARIANT) and options.use_op_library
    if exact and options.device != "cuda":
        wanted += [each for each in known if each.name == "openvino" and each.missing() is None]
    return wanted
