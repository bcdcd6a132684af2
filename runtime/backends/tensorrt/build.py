"""Building of an engine, strongly typed: the network's file alone decides precision.

TensorRT 10 is asked for strong typing and TensorRT 11 has nothing else; neither gets a flag for a
precision or a calibrator. The plugin stays outside the engine: running an engine with code of its
own would need a permission.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.progress import StepProgress


@dataclass(frozen=True)
class Built:
    """A new engine and the costs of its building.

    Attributes
    ----------
    engine
        Serialised engine.
    timing_cache
        Times of all tactics on this device, which make the next build short.
    seconds
        Duration of the build.
    """

    engine: bytes
    timing_cache: bytes
    seconds: float


def build_engine(
    trt: ModuleType,
    network: bytes,
    messages: Messages,
    *,
    batch: int,
    timing_cache: bytes = b"",
    progress: StepProgress | None = None,
    configure: Callable[[Any], None] = lambda config: None,
) -> Built:
    """Build an engine, for the device of this machine unless `configure` says otherwise.

    Parameters
    ----------
    trt
        The module ``tensorrt``, with the plugin loaded if the network needs it, or
        ``tensorrt_rtx``.
    network
        ONNX file whose one input is (batch, C, D, H, W), with a free batch or that of `batch`.
    messages
        Receives the builder's log.
    batch
        Largest number of tiles at once, for which the engine is optimised.
    timing_cache
        Timing cache of an earlier build.
    progress
        Called as the builder proceeds.
    configure
        Sets further options of the builder's configuration.

    Raises
    ------
    BackendError
        The network cannot be parsed or built; the message has the builder's reason.
    """
    start = time.perf_counter()
    builder = messages.start("Builder")
    definition = builder.create_network(_strongly_typed(trt))
    _parse(trt, definition, network, messages)
    config = builder.create_builder_config()
    configure(config)
    config.add_optimization_profile(_profile(builder, definition, batch))
    cache = config.create_timing_cache(timing_cache)
    config.set_timing_cache(cache, ignore_mismatch=False)
    if hasattr(trt.BuilderFlag, "TF32"):
        # On by default: float32 products would be rounded to 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    engine = builder.build_serialized_network(definition, config)
    if engine is None:
        raise BackendError(f"{trt.__name__} {trt.__version__} built no engine: {messages.errors()}")
    timings = config.get_timing_cache()
    return Built(
        bytes(engine),
        b"" if timings is None else bytes(timings.serialize()),
        time.perf_counter() - start,
    )


def _strongly_typed(trt: ModuleType) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 11 is always strongly typed; it keeps the flag for old code and may drop it.
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _parse(trt: ModuleType, definition: Any, network: bytes, messages: Messages) -> None:
    parser = trt.OnnxParser(definition, messages.logger)
    if parser.parse(network):
        return
    reasons = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
    raise BackendError(
        f"{trt.__name__} {trt.__version__} cannot read the network: "
        f"{'; '.join(reasons) or messages.errors()}"
    )


def _profile(builder: Any, definition: Any, batch: int) -> Any:
    """Make a profile of 1 to `batch` tiles, best at `batch`."""
    if definition.num_inputs != 1:
        raise BackendError(f"the network has {definition.num_inputs} inputs; expected one")
    tensor = definition.get_input(0)
    fixed, *tile = tensor.shape
    if fixed not in (-1, batch):
        raise BackendError(
            f"the network takes exactly {fixed} tile at a time, as its export said; "
            f"--batch is {batch}, expected {fixed}"
        )
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, (1, *tile), (batch, *tile), (batch, *tile))
    return profile


def _monitor(trt: ModuleType, progress: StepProgress) -> Any:
    """Make a monitor that reports the builder's outermost phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost: str | None = None
            self.steps = 1

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if self.outermost is None and not parent_phase:
                self.outermost, self.steps = phase_name, num_steps
                progress(0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.outermost:
                progress(min(step + 1, self.steps), self.steps)
            return True  # continue

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self.outermost:
                progress(self.steps, self.steps)

    return Monitor()
