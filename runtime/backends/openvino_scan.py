"""The op ``segmaformer::SelectiveScan`` for OpenVINO, around the op library's kernel.

OpenVINO calls the op back in Python with its own memory, so that nothing is copied or built
for a version of it; a call costs about 0.2 ms beside the scan itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openvino
from openvino.frontend.onnx import ConversionExtension

from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.op_library import (
    FLOAT16,
    FLOAT32,
    SelectiveScanArgs,
    run_selective_scan,
)

__all__ = ["scan_extension"]

_DOMAIN, _NAME = "segmaformer", "SelectiveScan"
_FLAGS = ("delta_softplus", "reverse")
_INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
_ELEMENTS = {"float32": FLOAT32, "float16": FLOAT16}
_ABSENT = "NullNode"


@dataclass(frozen=True)
class _Settings:
    """What a node is beside its tensors: which inputs it has, its flags, and its threads."""

    inputs: tuple[str, ...]
    flags: Mapping[str, int]
    threads: int


class SelectiveScan(openvino.Op):  # type: ignore[misc]  # OpenVINO ships no types
    """One node. OpenVINO names the type after the class and calls the methods."""

    def __init__(self, inputs: Sequence[Any], settings: _Settings):
        super().__init__(self, list(inputs))
        self.settings = settings

    def validate_and_infer_types(self) -> None:
        """The output has the type and shape of u."""
        self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(0))

    def clone_with_new_inputs(self, inputs: Sequence[Any]) -> SelectiveScan:
        """The same op elsewhere in a graph."""
        return SelectiveScan(inputs, self.settings)

    def visit_attributes(self, visitor: Any) -> bool:
        """Show the flags, by which OpenVINO tells nodes apart."""
        visitor.on_attributes(dict(self.settings.flags))
        return True

    def has_evaluate(self) -> bool:
        """Whether the op computes; it does."""
        return True

    def evaluate(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> bool:
        """Compute `outputs` from `inputs`, OpenVINO's tensors."""
        settings = self.settings
        arrays = dict(zip(settings.inputs, [tensor.data for tensor in inputs], strict=True))
        u = arrays["u"]
        batch, length, channels = u.shape
        args = SelectiveScanArgs(
            element_type=_ELEMENTS[u.dtype.name],
            batch=batch,
            length=length,
            channels=channels,
            states=arrays["A"].shape[1],
            y=_address(outputs[0].data),
            **{name: _address(array) for name, array in arrays.items()},
            **settings.flags,
        )
        run_selective_scan(args, threads=settings.threads)
        return True


def _address(array: Any) -> int:
    # A quarter of the time that array.ctypes.data takes, nine times a call.
    address: int = array.__array_interface__["data"][0]
    return address


def scan_extension(threads: int) -> ConversionExtension:
    """What makes OpenVINO's reader of ONNX take the op, whose function body it does not read.

    Parameters
    ----------
    threads
        Threads for one scan.
    """

    def convert(node: Any) -> Any:
        given = [node.get_input(index) for index in range(node.get_input_size())]
        named = {
            name: value
            for name, value in zip(_INPUTS, given, strict=False)
            if value.get_node().get_type_name() != _ABSENT
        }
        if missing := [name for name in _INPUTS[:5] if name not in named]:
            raise BackendError(f"a {_NAME} node has no {', '.join(missing)}")
        flags = {name: int(node.get_attribute(name, 0)) for name in _FLAGS}
        settings = _Settings(tuple(named), flags, threads)
        return SelectiveScan(list(named.values()), settings).outputs()

    return ConversionExtension(_NAME, _DOMAIN, convert)
