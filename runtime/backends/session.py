"""Interface of every backend: an open network that turns tiles into logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from segmaformer.runtime.bindings.processors import MOST_THREADS
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline.device_network import DeviceNetwork
from segmaformer.runtime.pipeline.tile_network import RunTiles
from segmaformer.runtime.spec import Triple

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


@dataclass(frozen=True)
class BackendOptions:
    """Options of a session.

    Attributes
    ----------
    threads
        Number of threads for one tile; None uses every processor this process may use.
    use_op_library
        Whether to run native kernels; otherwise the portable function bodies run.
    device
        One of :data:`DEVICES`; None uses the backend's default, and the best for ``auto``.

    Raises
    ------
    ValueError
        `threads` is not from 1 to :data:`MOST_THREADS`, or there is no such device.
    """

    threads: int | None = None
    use_op_library: bool = True
    device: Device | None = None

    def __post_init__(self) -> None:
        if self.device is not None and self.device not in DEVICES:
            raise ValueError(f"unknown device {self.device!r}; known: {', '.join(DEVICES)}")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(
                f"threads is {self.threads}; expected 1 to {MOST_THREADS}, or None for all"
            )


@dataclass(frozen=True)
class NetworkKind:
    """Software and variant that compute logits, whatever their version, threads and machine.

    Attributes
    ----------
    backend, device
        Values of ``--backend`` and ``--device``.
    variant
        Variant of the package.
    precision
        Precision of the backend's own choice; empty where it computes as the variant says.
    """

    backend: str
    device: Device
    variant: str
    precision: str = ""


@dataclass(frozen=True)
class CoarseNetwork:
    """A network without the last upsampling of its logits, which is left to the pipeline.

    Attributes
    ----------
    run
        Function from tiles (B, C, D, H, W) to logits (B, K, *grid), both float32, unchecked.
    grid
        Grid (D, H, W) of the logits; its extents divide the tile's.
    """

    run: RunTiles
    grid: Triple


class Session(Protocol):
    """An open network with its optional abilities, each None if it lacks that one."""

    @property
    def description(self) -> str:
        """Backend, device and precision, as shown to people."""
        ...

    @property
    def kind(self) -> NetworkKind:
        """Backend, device, variant and precision, to compare runs by."""
        ...

    @property
    def tiles_at_once(self) -> int:
        """Largest number of tiles in one call of :meth:`run`; above one if that is faster."""
        ...

    @property
    def overlap(self) -> bool:
        """True to prepare the next tiles and blend the last ones during a run."""
        ...

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        They are unchecked: the native pipeline refuses NaN and infinity when it blends; other users
        call :func:`run_checked`.
        """
        ...

    @property
    def identity(self) -> str | None:
        """Text that changes with everything that the numbers depend on.

        A passed self-test is remembered under it.
        """
        ...

    @property
    def coarse(self) -> CoarseNetwork | None:
        """Network with the last upsampling of its logits left to the pipeline."""
        ...

    @property
    def resident(self) -> DeviceNetwork | None:
        """Network with its logits left, unchecked, on the device that computes them."""
        ...


def run_checked(session: Session, tiles: np.ndarray) -> np.ndarray:
    """Compute logits (B, K, D, H, W) of tiles (B, C, D, H, W), float32, all of them finite.

    Raises
    ------
    BackendError
        Logits are NaN or infinite: labels from them would look valid and mean nothing.
    """
    logits = np.asarray(session.run(tiles))
    # NaN and infinity both show in the extremes, which take no memory.
    if not (np.isfinite(logits.min()) and np.isfinite(logits.max())):
        bad = logits.size - np.count_nonzero(np.isfinite(logits))
        raise BackendError(
            f"{bad} of {logits.size} logits from {session.description} are NaN or infinite; "
            "run the fp32 variant, and check the scan's intensities if it fails as well"
        )
    return logits
