"""Parts of the native resampling that the pipeline never calls alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support.native.single_functions import call

from segmaformer.runtime.bindings.pipeline_call import as_json
from segmaformer.runtime.bindings.structs import ResizeArgs
from segmaformer.runtime.spec import Resampling, Spacing


def separate_axis(
    spacing_mm: Spacing, new_spacing_mm: Spacing, resampling: Resampling
) -> int | None:
    """Return the coarse axis that is resampled on its own, or None if all go together.

    It is the axis of the largest spacing, if only one has that. Unless `resampling`
    forces or forbids it, the present spacing decides if it is anisotropic beyond the
    threshold, otherwise the new one.
    """
    resize = ResizeArgs(spacing_mm=spacing_mm, new_spacing_mm=new_spacing_mm)
    axis = np.empty(1, np.int32)
    call("sgmf_find_separate_axis", resize, as_json(resampling), axis)
    return None if axis[0] < 0 else int(axis[0])


def axis_weights(length: int, new_length: int, order: int) -> npt.NDArray[np.float64]:
    """Return the matrix (new_length, length) that resizes one axis.

    Raises
    ------
    ValueError
        `order` is outside 0 to 5.
    """
    weights = np.empty((new_length, length))
    call("sgmf_resize_weights", length, new_length, order, weights)
    return weights
