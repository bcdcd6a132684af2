"""Single parts of the native pipeline that the runtime only uses together."""

from __future__ import annotations

import numpy as np
from support.native.single_functions import FillHolesArgs, call_kernel

from segmaformer.runtime.pipeline.preprocessing import Preprocessed, preprocess
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Normalization, Preprocessing


def fill_holes(mask: np.ndarray) -> None:
    """Fill, in place, the holes of a mask (D, H, W), bool, in C order."""
    call_kernel("sgmf_fill_holes", FillHolesArgs(mask.ctypes.data, mask.shape), threads=1)


def cropped(image: np.ndarray, normalization: Normalization) -> Preprocessed:
    """Crop and normalise a scan whose network axes are those of `image` (C, D, H, W)."""
    channels = tuple(map(str, range(len(image))))
    spec = Preprocessing(channels, (normalization,) * len(image), orientation=None)
    return preprocess(Volume(image.transpose(0, 3, 2, 1), np.eye(4)), spec)
