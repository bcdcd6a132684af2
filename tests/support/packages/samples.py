"""Manifests, packages and scans for tests that need no trained network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from segmaformer.runtime.package.manifest import FileRecord, Manifest, Network, Variant
from segmaformer.runtime.package.seal import seal, unseal
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

PARITY: dict[str, Any] = {
    "reference": "PyTorch float32",
    "tiles": 2,
    "largest_error": 2e-6,
    "relative_error": 1.5e-7,
    "bound": 2e-5,
    "noise": None,
    "label_agreement": 1.0,
    "dice": {"0": 1.0, "1": 0.99991},
}


def sample_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "sample",
        "network": Network(
            "segmaformer",
            {"embed_dims": [8, 16]},
            1234,
            "best.pth",
            "c0ffee" * 8,
            licence="CC BY 4.0",
        ),
        "preprocessing": Preprocessing(("T1",), (Normalization("zscore"),)),
        "tiling": Tiling((8, 8, 8), mirror_axes=(2,)),
        "output": Output((Label(0, "background"), Label(1, "hippocampus"))),
        "variants": {"fp32": Variant("fp32.onnx", {"default": "float32"}, PARITY)},
        "verification_tiles": "2 phantom tiles",
        "software": {"numpy": "2.0"},
        "created": "2026-01-01T00:00:00+00:00",
        "files": {"fp32.onnx": FileRecord("0" * 64, 10)},
    }
    return Manifest(**{**fields, **changes})


def edit_manifest(package: Path, old: str, new: str, *, reseal: bool = True) -> None:
    """Replace text in a package's manifest, as its author (`reseal`) or as an accident would."""
    path = package / "manifest.json"
    content = path.read_bytes()
    assert old.encode() in content
    if reseal:
        path.write_bytes(seal(unseal(content).decode().replace(old, new, 1)))
    else:
        path.write_bytes(content.replace(old.encode(), new.encode(), 1))


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(bytes(content))


def copy_package(package: Path, folder: Path) -> Path:
    return Path(shutil.copytree(package, folder / package.name))


def head_like(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Make smooth intensities around 100 in the middle, zero at the rim."""
    random = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, extent) for extent in shape]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    waves = sum(
        np.sin(np.tensordot(random.normal(size=3), np.indices(shape), 1) / 3) for _ in range(4)
    )
    image: np.ndarray = np.where(radius < 1.2, 100 + 20 * waves, 0).astype(np.float32)
    return image


def write_scan(
    path: Path, voxels: np.ndarray | None = None, affine: np.ndarray | None = None
) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = head_like((30, 34, 28)) if voxels is None else voxels
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4) if affine is None else affine), path)
    return path


def with_scaled_weights(model: Any, factor: float) -> Any:
    """Copy an ONNX model and scale its last convolution, as a faulty export might."""
    from onnx import ModelProto, numpy_helper

    altered = ModelProto()
    altered.CopyFrom(model)
    (weights,) = [t for t in altered.graph.initializer if "pred.weight" in t.name]
    scaled = (numpy_helper.to_array(weights) * factor).astype(np.float32)
    weights.CopyFrom(numpy_helper.from_array(scaled, weights.name))
    return altered
