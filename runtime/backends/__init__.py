"""Inference backends: each opens a package's variant and runs tiles.

Nothing falls back silently: a backend that is missing or fails is an error, and
``auto`` names what it chose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package import Package

__all__ = ["BackendOptions", "Session", "backend_names", "open_session"]


@dataclass(frozen=True)
class BackendOptions:
    """How a session runs.

    Attributes
    ----------
    threads
        Threads for one tile; None takes every processor this process may use.
    use_op_library
        False runs the portable function bodies instead of the native kernels.

    Raises
    ------
    ValueError
        `threads` is below 1.
    """

    threads: int | None = None
    use_op_library: bool = True

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; expected at least 1, or None for all")


class Session(Protocol):
    """An open network."""

    description: str
    """Backend, device and precision, as shown to people."""

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32."""
        ...


def backend_names() -> list[str]:
    """Names that :func:`open_session` takes."""
    return ["auto", *_openers()]


def open_session(
    package: Package,
    *,
    backend: str = "auto",
    variant: str | None = None,
    options: BackendOptions = BackendOptions(),
) -> Session:
    """Open one variant of a package.

    Parameters
    ----------
    package
        A checked package.
    backend
        One of :func:`backend_names`.
    variant
        ``fp32``, ``fp16`` ...; None takes what suits the backend, float32 on a CPU.
    options
        Threads and the like.

    Raises
    ------
    ValueError
        The package has no such variant, or there is no such backend.
    BackendError
        The backend cannot open the network.
    """
    openers = _openers()
    name = "onnxruntime" if backend == "auto" else backend
    if name not in openers:
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(backend_names())}")
    variant = variant or "fp32"
    if variant not in package.manifest.variants:
        known = ", ".join(package.manifest.variants)
        raise ValueError(f"{package.path} has no variant {variant!r}; it has {known}")
    return openers[name](package, variant, options)


def _openers() -> dict[str, Callable[[Package, str, BackendOptions], Session]]:
    from segmaformer.runtime.backends.onnxruntime_cpu import OnnxRuntimeSession

    return {"onnxruntime": OnnxRuntimeSession}


def check_logits(logits: np.ndarray, description: str) -> np.ndarray:
    """Return `logits`, or refuse them if any is not a number.

    Raises
    ------
    BackendError
        NaN or infinity: labels from them would look valid and mean nothing.
    """
    # NaN and infinity both show in the extremes, which take no memory.
    if not (np.isfinite(logits.min()) and np.isfinite(logits.max())):
        bad = logits.size - np.count_nonzero(np.isfinite(logits))
        raise BackendError(
            f"{bad} of {logits.size} logits from {description} are NaN or infinite; "
            "run the fp32 variant, and check the scan's intensities if it fails as well"
        )
    return logits
