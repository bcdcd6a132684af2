"""Segmentation small enough to compare a report's every pixel with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from support.packages.samples import sample_manifest

from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.volume import Volume, orient_to
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

HOSTILE = (
    "</script><script>window.ran = true</script><img src=x onerror='window.ran = true'>&{{script}}"
)


def phantom(codes: str = "RAS", *, channels: int = 1, **manifest: Any) -> Segmentation:
    """Store the same patient in any order of axes: three labels in a block of noise."""
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-4, 10, -7)
    shape = (12, 10, 8)
    voxels = np.random.default_rng(0).normal(100, 20, (channels, *shape)).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:8, 2:5] = 1
    labels[5:9, 2:5, 3:6] = 2
    labels[6:8, 6:8, 5:8] = 4
    turn = orient_to(affine, codes)
    volume = Volume(
        np.ascontiguousarray(turn.apply(voxels)),
        turn.apply_to_affine(affine, shape),
        source=(Path("/somewhere/scan.nii.gz"),),
    )
    names = ("background", "first", "second", "absent", "fourth")
    fields: dict[str, Any] = {
        "output": Output(tuple(Label(value, name) for value, name in enumerate(names))),
        "preprocessing": Preprocessing(
            tuple(f"T{index + 1}" for index in range(channels)),
            (Normalization("zscore"),) * channels,
        ),
    }
    return Segmentation(
        np.ascontiguousarray(turn.apply(labels)),
        volume,
        sample_manifest(**fields, **manifest),
        "ONNX Runtime, CPU, fp32",
        {"read": 0.25},
    )


def hostile() -> Segmentation:
    """Return the phantom with a script as the name of scan, package, labels and backend."""
    segmentation = phantom(name=HOSTILE, verification_tiles=HOSTILE)
    labels = tuple(
        Label(label.value, label.name + HOSTILE) for label in segmentation.manifest.output.labels
    )
    volume = replace(segmentation.volume, source=(Path(HOSTILE.replace("/", "\\")),))
    manifest = replace(segmentation.manifest, output=Output(labels))
    return replace(segmentation, volume=volume, manifest=manifest, backend=HOSTILE)
