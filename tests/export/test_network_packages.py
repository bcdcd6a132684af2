"""Tests from weights alone to a segmented scan, for networks used as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.graphs.untraced import untraced

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import Checkpoint, load_checkpoint
from segmaformer.export.pipeline import export_package
from segmaformer.models import create_model
from segmaformer.runtime import Package, Predictor

NETWORKS: dict[str, dict[str, Any]] = {
    "segmamba": {"feat_size": [4] * 4, "hidden_size": 8, "depths": [1] * 4, "d_state": 2},
    "segresmamba": {"feat_size": [8] * 4, "d_state": 2},
    "segformer3d": {
        "embed_dims": [8, 8, 10, 16],
        "depths": [1] * 4,
        "decoder_head_embedding_dim": 8,
    },
}
VALUES = {"segmamba": {0, 1, 2, 3}, "segresmamba": {0, 1, 2, 4}, "segformer3d": {0, 1, 2, 3}}


def weights_alone(arch: str, folder: Path) -> Checkpoint:
    torch.manual_seed(0)
    torch.save(create_model(arch, **NETWORKS[arch]).state_dict(), folder / "weights.pth")
    return load_checkpoint(folder / "weights.pth", patch_size=(32, 32, 64))


@pytest.mark.parametrize("arch", NETWORKS)
def test_labels_are_the_published_ones(arch: str, tmp_path: Path) -> None:
    assert {label.value for label in weights_alone(arch, tmp_path).labels} == VALUES[arch]


def test_published_use_reaches_the_label_map(tmp_path: Path) -> None:
    checkpoint = weights_alone("segresmamba", tmp_path)
    with untraced():
        package = Package.open(export_package(checkpoint, str(tmp_path / "network.sgmf")).path)
    affine = np.diag([-1.0, 2.0, 1.5, 1.0])
    scans = []
    for channel in range(4):
        voxels = np.random.default_rng(channel).random((40, 20, 24), dtype=np.float32)
        scans.append(tmp_path / f"channel{channel}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(voxels, affine), scans[-1])
    Predictor(package).predict(scans).save(tmp_path / "labels.nii.gz")
    written = nibabel.load(tmp_path / "labels.nii.gz")
    assert written.shape == (40, 20, 24)
    np.testing.assert_allclose(written.affine, affine)
    assert set(np.unique(written.dataobj)) <= VALUES["segresmamba"]
    assert package.manifest.output.labels == checkpoint.labels
