"""Packages of untrained convolutions that need no PyTorch to write."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.samples import PARITY, sample_manifest

from segmaformer.runtime.package.manifest import PREVIOUS_STAGE, FileRecord, Variant
from segmaformer.runtime.package.reader import read_manifest
from segmaformer.runtime.package.seal import seal
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.spec import (
    Label,
    Normalization,
    Output,
    Preprocessing,
    PreviousStage,
    Region,
    Tiling,
)
from segmaformer.runtime.system.digest import sha256_of

TILE = (16, 20, 24)
CT_CLASSES = 20


def write_ct_package(folder: Path) -> Path:
    """Write a package of twenty exclusive classes of a CT, coarser and turned against the scan."""
    preprocessing = Preprocessing(
        ("CT",),
        (Normalization("ct", mean=60.0, std=40.0, lower=-90.0, upper=170.0),),
        transpose_forward=(1, 0, 2),
        spacing=(1.5, 1.2, 1.3),
        crop_to_nonzero=False,
    )
    labels = tuple(Label(value, f"organ {value}") for value in range(CT_CLASSES))
    return write_package(folder, preprocessing, Output(labels))


def write_region_package(folder: Path) -> Path:
    """Write a package of three overlapping regions of two channels, one needing uint16."""
    preprocessing = Preprocessing(
        ("T1", "FLAIR"), (Normalization("zscore"), Normalization("zscore", use_mask=True))
    )
    labels = (Label(0, "background"), Label(1, "edema"), Label(2, "core"), Label(300, "rim"))
    regions = (
        Region("whole", (1, 2, 300), 1),
        Region("core", (2, 300), 2),
        Region("rim", (300,), 300),
    )
    return write_package(folder, preprocessing, Output(labels, regions))


def write_package(
    folder: Path, preprocessing: Preprocessing, output: Output, model: Any = None
) -> Path:
    """Write a package with a network of the manifest's inputs and outputs.

    Parameters
    ----------
    model
        An ONNX model; None makes one of :func:`convolutions`.
    """
    folder.mkdir()
    manifest = sample_manifest(
        preprocessing=preprocessing,
        tiling=Tiling(TILE, mirror_axes=(0, 2)),
        output=output,
        variants={"fp32": Variant("fp32.onnx", {"default": "float32"}, PARITY)},
    )
    if model is None:
        model = convolutions(len(preprocessing.channels), output.channels)
    write_files(folder, manifest, {"fp32.onnx": model.SerializeToString()})
    return folder


def convolutions(inputs: int, outputs: int, *, width: int = 12) -> Any:
    """Build two convolutions on tiles of TILE, float32."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    random = np.random.default_rng(outputs)

    def weights(name: str, *shape: int) -> Any:
        values = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        return onnx.numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["tiles", "w1", "b1"], ["hidden"], pads=[1] * 6),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Conv", ["active", "w2", "b2"], ["logits"]),
    ]
    constants = [
        weights("w1", width, inputs, 3, 3, 3),
        weights("b1", width),
        weights("w2", outputs, width, 1, 1, 1),
        weights("b2", outputs),
    ]
    values = [
        helper.make_tensor_value_info(name, kind, ["batch", channels, *TILE])
        for name, channels in (("tiles", inputs), ("logits", outputs))
    ]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_cascade_package(folder: Path) -> Path:
    """Write a cascade of two convolutional networks; the first one's grid is coarser."""
    labels = tuple(Label(value, f"organ {value}") for value in range(3))
    spec = Preprocessing(("T1",), (Normalization("zscore"),), spacing=(1.0, 1.0, 1.0))
    # Both find all three labels.
    write_package(folder, spec, Output(labels), convolutions(3, 3, width=11))
    coarse = dataclasses.replace(spec, spacing=(2.0, 2.0, 2.0))
    model = convolutions(1, 3, width=20)
    first = write_package(folder / PREVIOUS_STAGE, coarse, Output(labels), model)
    manifest = read_manifest(folder)
    files = {
        f"{PREVIOUS_STAGE}/{path.name}": FileRecord(sha256_of(path), path.stat().st_size)
        for path in first.iterdir()
    }
    stage = PreviousStage((1, 2))
    complete = dataclasses.replace(
        manifest, previous_stage=stage, files={**manifest.files, **files}
    )
    (folder / "manifest.json").write_bytes(seal(complete.to_json()))
    return folder
