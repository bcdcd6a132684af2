"""A label task that the native pipeline plans once and runs by a handle."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.callbacks import Callbacks
from segmaformer.runtime.bindings.label_task import (
    PROGRESS,
    TAKE_LOGITS,
    FinishedLogitsArgs,
    LabelPlanArgs,
    LabelTaskArgs,
)
from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.bindings.pipeline_call import call
from segmaformer.runtime.bindings.structs import element_type
from segmaformer.runtime.progress import StepProgress


class NativeStream:
    """A planned task; its memory in the native pipeline is freed with it.

    Parameters
    ----------
    task
        The task, kept with the callbacks in it.
    callbacks
        Made the callbacks in `task`.

    Attributes
    ----------
    tile_runs
        Tiles that a run sends through the network.
    streams
        Whether logits are finished block by block; if not, all are needed at once.

    Raises
    ------
    ValueError, BudgetError
        The task contradicts itself, or is beyond its budget.
    """

    def __init__(self, task: LabelTaskArgs, callbacks: Callbacks):
        plan, handle = LabelPlanArgs(), np.zeros(1, np.uintp)
        try:
            call("sgmf_open_stream", task, handle, plan, callbacks=callbacks)
        finally:  # it may be open when a signal ends this
            self._handle = int(handle[0])
            weakref.finalize(self, op_library().sgmf_free_stream, self._handle)
        self._task, self._callbacks = task, callbacks
        self.tile_runs: int = plan.tile_runs
        self.streams = bool(plan.streams)

    def labels(
        self, image: npt.NDArray[np.float32], labels: npt.NDArray[Any], progress: StepProgress
    ) -> None:
        """Fill `labels` (d, h, w), uint8 or uint16, from an image (C, D, H, W) in C order."""
        strides = np.array(labels.strides, np.int64) // labels.itemsize
        kind = element_type(labels)
        report = self._report(progress)
        self._run("sgmf_stream_labels", image, report, labels.ctypes.data, kind, strides)

    def logits(
        self,
        image: npt.NDArray[np.float32],
        take: Callable[[FinishedLogitsArgs], None],
        progress: StepProgress,
    ) -> None:
        """Pass finished logits of an image (C, D, H, W) in C order to `take`, for its call."""
        sink = self._callbacks.guarded(lambda _user, pointer: take(pointer.contents))
        self._run("sgmf_stream_logits", image, self._report(progress), TAKE_LOGITS(sink))

    def _report(self, progress: StepProgress) -> Any:
        return PROGRESS(self._callbacks.guarded(lambda _user, done, count: progress(done, count)))

    def _run(self, name: str, *arguments: Any) -> None:
        call(name, self._handle, *arguments, callbacks=self._callbacks)
