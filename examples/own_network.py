"""Export a network of your own with a Mamba layer, and segment a scan with it.

    python examples/own_network.py --out own-network

Writes a synthetic scan, the package and a label map into the folder. The network is small and its
weights are random, so its labels mean nothing; with your own network you load trained weights
(``export_module(..., weights="checkpoint.pth")``) and state how its training prepared scans.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import nn

from segmaformer.export.own_network.own_module import Use, export_module
from segmaformer.mamba import Mamba
from segmaformer.runtime import Predictor
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

TILE = (32, 32, 32)
LABELS = ("background", "tissue", "lesion")


class ConvBlock(nn.Sequential):
    """Convolution, norm and activation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(
            nn.Conv3d(inputs, outputs, 3, stride, padding=1),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01),
        )


class MambaBlock(nn.Module):
    """A Mamba layer over all voxels of a feature volume, added to them."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.mamba = nn.LayerNorm(width), Mamba(d_model=width, d_state=8)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Mix voxels (B, C, D, H, W); returns the same shape."""
        tokens = volume.flatten(2).transpose(1, 2)
        mixed: torch.Tensor = self.mamba(self.norm(tokens))
        return volume + mixed.transpose(1, 2).unflatten(2, volume.shape[2:])


class SmallUNet(nn.Module):
    """U-Net of three resolutions with a Mamba layer at the coarsest."""

    def __init__(self, channels: int = 1, classes: int = len(LABELS), width: int = 8):
        super().__init__()
        self.fine = ConvBlock(channels, width)
        self.middle = ConvBlock(width, 2 * width, stride=2)
        self.coarse = ConvBlock(2 * width, 4 * width, stride=2)
        self.mamba = MambaBlock(4 * width)
        self.up_middle = nn.ConvTranspose3d(4 * width, 2 * width, 2, stride=2)
        self.merge_middle = ConvBlock(4 * width, 2 * width)
        self.up_fine = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.merge_fine = ConvBlock(2 * width, width)
        self.head = nn.Conv3d(width, classes, 1)

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        """(B, channels, D, H, W) -> logits (B, classes, D, H, W)."""
        fine = self.fine(tile)
        middle = self.middle(fine)
        features = self.up_middle(self.mamba(self.coarse(middle)))
        features = self.up_fine(self.merge_middle(torch.cat((features, middle), 1)))
        logits: torch.Tensor = self.head(self.merge_fine(torch.cat((features, fine), 1)))
        return logits


def network_use() -> Use:
    """State how scans are prepared, cut into tiles and labelled: as in the training."""
    return Use(
        Preprocessing(
            channels=("T1",), normalization=(Normalization("zscore"),), spacing=(1.0, 1.0, 1.0)
        ),
        Tiling(TILE, mirror_axes=(0, 1, 2)),
        Output(tuple(Label(value, name) for value, name in enumerate(LABELS))),
    )


def write_scan(path: Path) -> Path:
    """Write a bright ball with a brighter one inside, in noise."""
    grid = np.indices((40, 48, 36)) - np.array((20, 24, 18))[:, None, None, None]
    radius = np.sqrt((grid**2).sum(0))
    noise = np.random.default_rng(0).normal(0, 5, radius.shape)
    voxels = (100.0 * (radius < 15) + 80.0 * (radius < 6) + noise).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag((1.1, 1.0, 1.2, 1.0))), path)
    return path


def main() -> None:
    """Export the network and segment the scan."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("own-network"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    package = export_module(SmallUNet(), folder / "network.sgmf", network_use(), report=print)
    segmentation = Predictor(package).predict(write_scan(folder / "scan.nii.gz"))
    segmentation.save(folder / "labels.nii.gz")
    counts = np.bincount(segmentation.labels.ravel(), minlength=len(LABELS))
    for name, count in zip(LABELS, counts, strict=True):
        print(f"{name}: {count:,} voxels")


if __name__ == "__main__":
    main()
