"""Tracing of a PyTorch network to an ONNX graph for a fixed tile and any batch size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
from torch import nn

from segmaformer.export import attention_translation, scan_translation
from segmaformer.export.function_body import add_function_body
from segmaformer.export.model_check import check_model
from segmaformer.export.scan_op import OPSET
from segmaformer.export.user_line import user_line
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report

INPUT, OUTPUT = "tiles", "logits"
IR_VERSION = 10  # ONNX 1.16, the newest that ONNX Runtime 1.20 and TensorRT 10.3 read

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli")


def export_onnx(
    model: nn.Module,
    tile: tuple[int, int, int],
    channels: int,
    *,
    report: Report = lambda message: None,
) -> onnx.ModelProto:
    """Trace `model` and return a checked float32 ONNX model.

    Parameters
    ----------
    model
        Network in evaluation mode; (B, channels, D, H, W) -> (B, classes, D, H, W).
    tile
        Depth, height and width in voxels: the training patch, since norms, positions and the
        scan depend on the extent.
    channels
        Input channels.
    report
        Called with a line of text where only one tile at a time can be traced.

    Returns
    -------
    onnx.ModelProto
        Input ``tiles``, output ``logits``, opset 18, free batch size (or one, where the network
        takes no other), the scan as op ``segmaformer::SelectiveScan`` with its function body.

    Raises
    ------
    InputError
        The network cannot be traced, and why; it draws random numbers, or computes in bfloat16.
    """
    try:
        # Batch 2: torch.export would take a batch of 1 for a constant.
        program = _trace(model, torch.zeros(2, channels, *tile), free_batch=True)
    except Exception as error:  # of the tracer, or of code that takes one tile alone
        try:
            program = _trace(model, torch.zeros(1, channels, *tile), free_batch=False)
        except Exception as second:
            raise InputError(
                f"PyTorch cannot trace the network: {_first_line(second)}. Control flow must not "
                "depend on the values of tensors, and every operator needs a form in ONNX"
            ) from second
        report(f"one tile at a time: a free batch size cannot be traced ({_first_line(error)})")
    exported: onnx.ModelProto = program.model_proto
    exported.ir_version = IR_VERSION
    exported.producer_name, exported.producer_version = "segmaformer", ""
    strip_metadata(exported)
    _refuse_operators(exported)
    add_function_body(exported)
    check_model(exported)
    return exported


def _trace(model: nn.Module, example: torch.Tensor, *, free_batch: bool) -> Any:
    shapes = ({0: torch.export.Dim("batch")},) if free_batch else None
    with _quiet(), torch.no_grad():
        # Traced here, not by torch.onnx: that drops the assertions of code that holds for the
        # batch of the example alone, and so writes a graph that is wrong for every other.
        traced = torch.export.export(model.eval(), (example,), dynamic_shapes=shapes)
        program = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            custom_translation_table=scan_translation.translation_table()
            | attention_translation.translation_table(),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program


def _refuse_operators(model: onnx.ModelProto) -> None:
    """Refuse a graph that computes something else every time, or in bfloat16."""
    for node in (*model.graph.node, *(node for body in model.functions for node in body.node)):
        if node.op_type in _RANDOM:
            raise InputError(
                f"the network draws random numbers ({node.op_type}), even if it seeds them; remove "
                "that, and dropout that acts in evaluation mode"
            )
        if any(
            each.name == "to" and each.i == onnx.TensorProto.BFLOAT16 for each in node.attribute
        ):
            raise InputError(
                "the network computes in bfloat16, which no backend here does; take "
                "torch.autocast and .bfloat16() out of it, so that it computes in float32"
            )


def _first_line(error: Exception) -> str:
    """Return the cause of a tracer's error in one line, and the line of the user's code."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    if lines and lines[0].startswith("Constraints violated"):
        return "what the code computes from the batch holds for one batch alone"
    return (lines[0] if lines else type(error).__name__) + user_line(error)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop doc strings and metadata: the tracer writes file paths of this machine there."""
    graph = model.graph
    for entry in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer: remarks on packages not used here, and graphs that it refuses."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
