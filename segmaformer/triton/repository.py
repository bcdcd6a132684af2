"""Model repository for NVIDIA's Triton Inference Server, made from a package."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segmaformer.runtime.backends import Device
from segmaformer.runtime.package.copying import copy_package
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.labels import label_dtype
from segmaformer.runtime.system.atomic import named_where_full
from segmaformer.runtime.system.unfinished import completing, create_folder, discard, forget

IMAGE, AFFINE, LABELS = "image", "affine", "labels"
"""Names of the tensors of a request and its answer."""
PACKAGE_FOLDER = "package.sgmf"
VERSION = "1"

_MODEL = '''"""Segment volumes with the package beside this file."""

from segmaformer.triton.python_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_model(
    package: Package,
    repository: Path,
    name: str,
    *,
    device: Device = "cpu",
    instances: int = 1,
    parameters: Mapping[str, str] = {},
) -> Path:
    """Add a package to a model repository, whole and checked, or not at all.

    Parameters
    ----------
    package
        Package to copy.
    repository
        Folder of the repository; created if missing.
    name
        Name of the model.
    device
        Device of the instances.
    instances
        Number of processes that segment side by side; for ``cuda``, on each GPU.
    parameters
        Parameters of :class:`~segmaformer.triton.python_model.TritonPythonModel`.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    FileExistsError
        The repository has a model of that name.
    PackageError
        The package changed meanwhile.
    """
    repository.mkdir(parents=True, exist_ok=True)
    model = repository / name
    if os.path.lexists(model):
        raise FileExistsError(f"{model} exists; give another --name, or remove it first")
    staging, lock = create_folder(model)
    try:
        with named_where_full(model):
            version = staging / VERSION
            (version / PACKAGE_FOLDER).mkdir(parents=True)
            copy_package(package, package.manifest_sha256, version / PACKAGE_FOLDER)
            (version / "model.py").write_text(_MODEL, encoding="utf-8")
            configuration = model_configuration(
                package.manifest, name, device=device, instances=instances, parameters=parameters
            )
            (staging / "config.pbtxt").write_text(configuration, encoding="utf-8")
        with completing():
            staging.rename(model)
            forget(staging)
    finally:
        discard(staging)
        os.close(lock)
    return model


def model_configuration(
    manifest: Manifest,
    name: str,
    *,
    device: Device = "cpu",
    instances: int = 1,
    parameters: Mapping[str, str] = {},
) -> str:
    """Return the ``config.pbtxt`` of a package; parameters are those of :func:`write_model`."""
    channels = len(manifest.preprocessing.channels)
    labels = _TYPES[label_dtype(manifest.output)]
    lines = [
        f"name: {_text(name)}",
        'backend: "python"',
        "max_batch_size: 0",  # volumes differ in their extents
        _tensor("input", IMAGE, "TYPE_FP32", [channels, -1, -1, -1]),
        _tensor("input", AFFINE, "TYPE_FP64", [4, 4]),
        _tensor("output", LABELS, labels, [-1, -1, -1]),
        f"instance_group {{ count: {instances} kind: {_KINDS[device]} }}",
        *(
            f"parameters {{ key: {_text(key)} value {{ string_value: {_text(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


_KINDS: Mapping[Device, str] = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}
_TYPES = {np.uint8: "TYPE_UINT8", np.uint16: "TYPE_UINT16"}


def _text(text: str) -> str:
    return json.dumps(text)


def _tensor(role: str, name: str, data_type: str, dims: list[int]) -> str:
    return f"{role} {{ name: {_text(name)} data_type: {data_type} dims: {dims} }}"
