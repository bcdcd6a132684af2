"""Mirrors of the structures in the headers of ``kernels/interface``."""

from __future__ import annotations

import ctypes

FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2
"""Element types by the names of NumPy, as ``sgmf_element_type`` numbers them."""


class SelectiveScanArgs(ctypes.Structure):
    """Mirror of ``sgmf_selective_scan_args``."""

    _fields_ = (
        ("element_type", ctypes.c_int32),
        ("delta_softplus", ctypes.c_int32),
        ("reverse", ctypes.c_int32),
        ("batch", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("states", ctypes.c_int64),
        ("u", ctypes.c_void_p),
        ("delta", ctypes.c_void_p),
        ("A", ctypes.c_void_p),
        ("B", ctypes.c_void_p),
        ("C", ctypes.c_void_p),
        ("D", ctypes.c_void_p),
        ("z", ctypes.c_void_p),
        ("delta_bias", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
    )


class SelectiveScanGradientArgs(ctypes.Structure):
    """Mirror of ``sgmf_selective_scan_gradient_args``."""

    _fields_ = (
        ("scan", SelectiveScanArgs),
        ("grad_y", ctypes.c_void_p),
        ("grad_u", ctypes.c_void_p),
        ("grad_delta", ctypes.c_void_p),
        ("grad_A", ctypes.c_void_p),
        ("grad_B", ctypes.c_void_p),
        ("grad_C", ctypes.c_void_p),
        ("grad_D", ctypes.c_void_p),
        ("grad_z", ctypes.c_void_p),
        ("grad_delta_bias", ctypes.c_void_p),
    )


MOST_INPUTS = 6
"""Mirror of ``SGMF_TOKEN_OP_MAX_INPUTS``."""


class TensorArgs(ctypes.Structure):
    """Mirror of ``sgmf_tensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int32),
        ("extent", ctypes.c_int64 * 5),
    )


class TokenOpArgs(ctypes.Structure):
    """Mirror of ``sgmf_token_op_args``."""

    _fields_ = (
        ("op", ctypes.c_char_p),
        ("input_count", ctypes.c_int32),
        ("inputs", TensorArgs * MOST_INPUTS),
        ("group", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        ("alpha", ctypes.c_float),
        ("scales", ctypes.c_float * 3),
        ("strides", ctypes.c_int64 * 3),
        ("pads", ctypes.c_int64 * 6),
        ("y", TensorArgs),
    )


class KeepLargestArgs(ctypes.Structure):
    """Mirror of ``sgmf_keep_largest_args``."""

    _fields_ = (
        ("labels", ctypes.c_void_p),
        ("is_uint16", ctypes.c_int32),
        ("extent", ctypes.c_int64 * 3),
        ("stride", ctypes.c_int64 * 3),
        ("values", ctypes.c_void_p),
        ("value_count", ctypes.c_int64),
        ("connectivity", ctypes.c_int32),
        ("components", ctypes.c_int64),
        ("equals_stay", ctypes.c_int32),
    )


class AxisTapsArgs(ctypes.Structure):
    """Mirror of ``sgmf_axis_taps``."""

    _fields_ = (
        ("count", ctypes.c_int64),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )
