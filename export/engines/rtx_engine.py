"""TensorRT-RTX engines from packages: the scans' parallel body put in, then built for a target."""

from __future__ import annotations

import onnx

from segmaformer.export.plain_graph import plain_graph
from segmaformer.runtime.backends.tensorrt.rtx_build import RtxEngine, build_rtx_engine
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.progress import Report, StepProgress


def build_package_engine(
    package: Package,
    variant: str,
    target: str,
    *,
    batch: int = 1,
    progress: StepProgress = lambda done, steps: None,
    keep_log: Report = lambda text: None,
) -> RtxEngine:
    """Build an engine of a package's variant, ahead of time and without a GPU.

    The package keeps its graph; the body that replaces the scans exists only during the build.

    Parameters
    ----------
    package, variant
        Source of the network; float32 or typed, the engine computes in the types of the file.
    target, batch, progress, keep_log
        As for :func:`segmaformer.runtime.backends.tensorrt.rtx_build.build_rtx_engine`.

    Raises
    ------
    ValueError, MissingExtraError
        As raised by that function.
    BackendError
        The network has an operator that cannot be built, or building failed.
    """
    content = package.network(variant)
    try:
        # A batch of one is fixed, because kernels for known sizes are simpler.
        plain = plain_graph(onnx.load_from_string(content), batch=1 if batch == 1 else None)
    except ValueError as error:
        raise BackendError(f"{package.path}, {variant}: {error}") from error
    return build_rtx_engine(
        plain.SerializeToString(), target, batch=batch, progress=progress, keep_log=keep_log
    )
