"""Segment a CT phantom by density, and draw the DICOM segmentation over its images.

    python examples/head_phantom.py package densities.sgmf
    sgmf infer CT_FOLDER -m densities.sgmf -o densities.dcm
    python examples/head_phantom.py picture CT_FOLDER densities.dcm densities.png

The network was never trained: it gives each voxel the nearest of three densities. What it lacks to
be yours is trained weights. The picture is made of the DICOM files alone, by pydicom and highdicom,
as a viewer would: it shows where the segmentation's frames say that they lie.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segmaformer.export.own_network.own_module import Use, export_module
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

DENSITIES = {"air": -1000.0, "plastic": 50.0, "skull": 800.0}
"""Label and Hounsfield units; air is the background."""
WINDOW = (-300.0, 1000.0)
CUT_MM = 0.5
"""Edge of a pixel in the sagittal cut."""


class Densities(nn.Module):
    """Logits of the nearest density; plastic must be even, which the rim of a bone is not."""

    evenness: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        centres = torch.tensor([*DENSITIES.values()]) / 1000
        self.nearest = nn.Conv3d(1, len(centres), 1)
        self.nearest.weight = nn.Parameter(2 * centres.reshape(-1, 1, 1, 1, 1))
        self.nearest.bias = nn.Parameter(-(centres**2))
        evenness = [0.0 if name != "plastic" else -10.0 for name in DENSITIES]
        self.register_buffer("evenness", torch.tensor(evenness).reshape(-1, 1, 1, 1))

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        """(B, 1, D, H, W) in Hounsfield units -> logits (B, 3, D, H, W)."""
        scaled = tile / 1000
        spread = _mean_nearby((scaled - _mean_nearby(scaled)).abs())
        logits: torch.Tensor = self.nearest(scaled) + self.evenness * spread
        return logits


def _mean_nearby(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of 5 x 5 voxels in the same image."""
    return nn.functional.avg_pool3d(values, (1, 5, 5), 1, (0, 2, 2), count_include_pad=False)


def write_package(path: Path) -> None:
    """Export the network, with what it needs to know of a CT."""
    use = Use(
        Preprocessing(("CT",), (Normalization("none"),), orientation=None, crop_to_nonzero=False),
        Tiling((8, 128, 128), step=0.75),
        Output(tuple(Label(value, name) for value, name in enumerate(DENSITIES))),
    )
    export_module(Densities().eval(), path, use, report=print)


def read_images(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[tuple[float, ...], int]]:
    """Return intensities (slice, row, column), an affine of (column, row, slice), and positions.

    The affine leads to millimetres along left, posterior and superior.
    """
    import pydicom

    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    images = [image for image in found if "ImagePositionPatient" in image]
    row, column = np.reshape(images[0].ImageOrientationPatient, (2, 3)).astype(float)
    images.sort(key=lambda image: np.cross(row, column) @ image.ImagePositionPatient)
    places = {_position(image): index for index, image in enumerate(images)}
    first, last = (np.array(images[index].ImagePositionPatient, float) for index in (0, -1))
    between_rows, between_columns = map(float, images[0].PixelSpacing)
    step = (last - first) / (len(images) - 1)
    affine = np.stack([row * between_columns, column * between_rows, step, first], axis=1)
    pixels = [
        image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        for image in images
    ]
    return np.stack(pixels), affine, places


def _position(item: Any) -> tuple[float, ...]:
    return tuple(round(float(edge), 3) for edge in item.ImagePositionPatient)


def read_segments(
    path: Path, places: dict[tuple[float, ...], int], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return segment numbers (slice, row, column), 0 for none, and a colour for each number."""
    import highdicom

    segmentation = highdicom.seg.segread(path)
    numbers, colours = np.zeros(shape, np.uint8), np.zeros((len(DENSITIES), 3))
    for number in segmentation.segment_numbers:
        lab = segmentation.get_segment_description(number).RecommendedDisplayCIELabValue
        colours[number] = highdicom.color.CIELabColor.from_dicom_value(lab).to_rgb()
    frames = segmentation.pixel_array.reshape(-1, *shape[1:])
    for frame, item in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        numbers[places[_position(item.PlanePositionSequence[0])]][frame > 0] = number
    return numbers, colours / 255


def draw(folder: Path, segmentation: Path, picture: Path) -> None:
    """Draw the middle image, and a sagittal cut at the place that the files state."""
    from PIL import Image

    pixels, affine, places = read_images(folder)
    numbers, colours = read_segments(segmentation, places, pixels.shape)

    def painted(plane: Any) -> np.ndarray:
        grey = np.clip((pixels[plane] - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)[..., None]
        return np.where(numbers[plane][..., None], 0.5 * grey + 0.5 * colours[numbers[plane]], grey)

    slices, _, columns = pixels.shape
    parts = [painted(slices // 2), _sagittal(painted(np.s_[:, :, columns // 2]), affine)]
    height = max(map(len, parts))
    parts = [np.pad(part, ((0, height - len(part)), (0, 0), (0, 0))) for part in parts]
    Image.fromarray((np.concatenate(parts, axis=1) * 255).astype(np.uint8)).save(picture)


def _sagittal(plane: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return a plane (slice, row, 3) along posterior and superior, with the top upwards."""
    slices, rows, _ = plane.shape
    # Along left the cut stays where it is, so two axes are enough.
    edges = affine[1:, 1:3]
    corners = edges @ np.array([[0, rows - 1, 0, rows - 1], [0, 0, slices - 1, slices - 1]])
    low, high = corners.min(axis=1), corners.max(axis=1)
    across, up = (np.arange(low[axis], high[axis], CUT_MM) for axis in (0, 1))
    targets = np.stack(np.meshgrid(across, up[::-1]), axis=-1)
    row, index = np.rint(np.linalg.inv(edges) @ targets.reshape(-1, 2).T).astype(int)
    inside = (row >= 0) & (row < rows) & (index >= 0) & (index < slices)
    found = np.zeros((len(row), 3))
    found[inside] = plane[index[inside], row[inside]]
    return found.reshape(*targets.shape[:2], 3)


def main() -> None:
    """Write the package, or the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("package").add_argument("path", type=Path)
    picture = commands.add_parser("picture")
    for name in ("folder", "segmentation", "picture"):
        picture.add_argument(name, type=Path)
    arguments = parser.parse_args()
    if arguments.command == "package":
        write_package(arguments.path)
    else:
        draw(arguments.folder, arguments.segmentation, arguments.picture)


if __name__ == "__main__":
    main()
