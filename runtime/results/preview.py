"""Picture of a segmentation, readable at a glance.

Three planes in radiological convention, see :mod:`segmaformer.runtime.results.display_planes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from segmaformer.runtime.results.display_planes import (
    DISPLAY_ORIENTATION,
    NOTICE,
    PLANES,
    Plane,
    network_window,
    place_text,
    robust_window,
    telling_centre,
)
from segmaformer.runtime.results.legend import (
    BACKGROUND,
    LINE_PX,
    QUIET,
    LegendEntry,
    draw_legend,
    write,
)
from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.results.statistics import MM3_PER_ML
from segmaformer.runtime.scans.volume import orient_to
from segmaformer.runtime.system.atomic import Target, atomic_file

if TYPE_CHECKING:
    from segmaformer.runtime.results.segmentation import Segmentation

_USUAL_LONGEST_PX, _GREATEST_PX, _LEAST_HEIGHT_PX = 520, 640, 360
_MARGIN_PX, _HEADER_PX, _FOOTER_PX = 20, 76, 52
_TICK_PX, _LETTER_AT_PX = 10, 14
_TITLE_PX, _LETTER_PX = 20, 16
_NOTICE_COLOUR = (240, 190, 90)
_FILL = 0.35


@dataclass(frozen=True)
class _Scene:
    """Content of the picture, with axes in LPI order.

    `image` and `labels` (X, Y, Z), `window` of intensities, `spacing_mm`, the volume `voxel_ml` of
    a voxel, the voxel `centre` that the planes share, its place `centre_mm` in RAS+, `colours` by
    label value.
    """

    image: np.ndarray
    labels: np.ndarray
    window: tuple[float, float]
    spacing_mm: np.ndarray
    voxel_ml: float
    centre: tuple[int, ...]
    centre_mm: np.ndarray
    colours: np.ndarray

    @property
    def extent_mm(self) -> np.ndarray:
        return np.asarray(np.array(self.labels.shape) * self.spacing_mm)


def write_preview(path: Target, segmentation: Segmentation, *, names: bool = False) -> None:
    """Write the preview of a segmentation as PNG, atomically.

    The first channel is shown.

    Parameters
    ----------
    path
        File to write.
    segmentation
        Labels, scan, names and origin.
    names
        Show the name of the scan's file. Pictures are handed on, and names may be patients'.

    Raises
    ------
    OSError
        `path` cannot be written, see :func:`~segmaformer.runtime.system.atomic.unfinished_file`.
    """
    volume = segmentation.volume
    picture = draw_preview(
        volume.voxels[0],
        segmentation.labels,
        volume.affine,
        segmentation.label_names,
        window=network_window(segmentation.manifest.preprocessing.normalization[0]),
        title=volume.source[0].name if names and volume.source else "Scan",
        subtitle=f"{segmentation.manifest.name}  ·  {segmentation.backend}",
    )
    with atomic_file(path) as stream:
        picture.save(stream, format="PNG")


def draw_preview(
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    label_names: Mapping[int, str],
    *,
    window: tuple[float, float] | None = None,
    title: str = "",
    subtitle: str = "",
) -> Image.Image:
    """Draw three planes through the centre of a segmentation, and a legend.

    The planes meet near the centroid of all labels, each moved to the nearest slice that holds at
    least half as much of them as the fullest one. All have the same scale, and voxels are stretched
    to their size in millimetres.

    Parameters
    ----------
    image
        Intensities (X, Y, Z).
    labels
        Shape (X, Y, Z), unsigned integers; 0 is background.
    affine
        Shape (4, 4): voxel indices to RAS+ millimetres.
    label_names
        Name of every value that `labels` may hold, without the background.
    window
        Intensities to show as black and white; None for the 0.5th and 99.5th
        percentile of the voxels that are not zero.
    title, subtitle
        Texts above the planes.

    Returns
    -------
    PIL.Image.Image
        RGB image.

    Raises
    ------
    ValueError
        `image` and `labels` do not have the same three axes.
    """
    if image.ndim != 3 or image.shape != labels.shape:
        raise ValueError(
            f"image of shape {image.shape} and labels of shape {labels.shape} do not fit; "
            "expected the same (X, Y, Z)"
        )
    scene = _arrange(image, labels, affine, window, max(label_names, default=0))
    scale = _pixels_per_mm(scene.extent_mm)
    panels = [_draw_panel(scene, plane, scale) for plane in PLANES]
    legend = draw_legend(_legend_entries(scene, label_names))
    return _compose(panels, legend, title, subtitle)


def _arrange(
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    window: tuple[float, float] | None,
    largest_value: int,
) -> _Scene:
    turn = orient_to(affine, DISPLAY_ORIENTATION)
    x, y, z = labels.shape
    affine = turn.apply_to_affine(affine, (x, y, z))
    image, labels = turn.apply(image), turn.apply(labels)
    centre = telling_centre(labels)
    palette = label_colours(max(largest_value, int(labels.max(initial=0))))
    return _Scene(
        image,
        labels,
        window=window or robust_window(image),
        spacing_mm=np.linalg.norm(affine[:3, :3], axis=0),
        voxel_ml=abs(float(np.linalg.det(affine[:3, :3]))) / MM3_PER_ML,
        centre=centre,
        centre_mm=affine[:3, :3] @ centre + affine[:3, 3],
        colours=np.concatenate((np.zeros((1, 3), np.uint8), palette)),
    )


def _pixels_per_mm(extent_mm: np.ndarray) -> float:
    """Choose one scale for all panels: large enough to read, small enough for a page."""
    usual = _USUAL_LONGEST_PX / extent_mm.max()
    readable = _LEAST_HEIGHT_PX / extent_mm[[plane.down for plane in PLANES]].min()
    return float(min(max(usual, readable), _GREATEST_PX / extent_mm.max()))


def _draw_panel(scene: _Scene, plane: Plane, scale: float) -> Image.Image:
    width, height = (
        max(1, round(scene.extent_mm[axis] * scale)) for axis in (plane.across, plane.down)
    )
    grey = _grey(_section(scene.image, scene, plane), scene.window)
    grey = grey.resize((width, height), Image.Resampling.BICUBIC)
    labels = _enlarge(_section(scene.labels, scene, plane), height, width)
    section = Image.fromarray(_overlay(np.asarray(grey), labels, scene.colours))
    _annotate(section, scene, plane)
    panel = Image.new("RGB", (width, height + LINE_PX), BACKGROUND)
    panel.paste(section, (0, LINE_PX))
    caption = f"{plane.name}   {place_text(scene.centre_mm, plane.through)}"
    write(ImageDraw.Draw(panel), (0, LINE_PX / 2), caption, colour=QUIET)
    return panel


def _section(volume: np.ndarray, scene: _Scene, plane: Plane) -> np.ndarray:
    """Cut a plane out of a volume; rows run down and columns across the picture."""
    return np.asarray(volume.take(scene.centre[plane.through], plane.through).T)


def _grey(plane: np.ndarray, window: tuple[float, float]) -> Image.Image:
    lower, upper = window
    shades = (plane.astype(np.float64) - lower) / max(upper - lower, 1e-12)
    return Image.fromarray((255 * shades.clip(0, 1)).round().astype(np.uint8))


def _enlarge(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge to shape (height, width) by nearest neighbour."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * (extent / pixels)).astype(int)
        for pixels, extent in zip((height, width), labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])


def _overlay(grey: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Tint labels and outline them; returns shape (height, width, 3), uint8."""
    opacity = np.where(_outline(labels), 1.0, _FILL) * (labels > 0)
    mixed = grey[..., None] * (1 - opacity[..., None]) + colours[labels] * opacity[..., None]
    return np.asarray(mixed.round().astype(np.uint8))


def _outline(labels: np.ndarray) -> np.ndarray:
    """Mark the pixels within two of another label, along rows and columns."""
    outline = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        ahead, behind = np.moveaxis(outline, axis, 0), np.moveaxis(labels, axis, 0)
        for step in (1, 2):
            change = behind[step:] != behind[:-step]
            ahead[step:] |= change
            ahead[:-step] |= change
    return outline


def _annotate(section: Image.Image, scene: _Scene, plane: Plane) -> None:
    """Mark the cuts of the other two planes, and the directions of the patient."""
    draw = ImageDraw.Draw(section)
    right, bottom = section.width - 1, section.height - 1
    x, y = (
        (scene.centre[axis] + 0.5) / scene.labels.shape[axis] * pixels
        for axis, pixels in ((plane.across, section.width), (plane.down, section.height))
    )
    for tick in (
        (x, 0, x, _TICK_PX),
        (x, bottom - _TICK_PX, x, bottom),
        (0, y, _TICK_PX, y),
        (right - _TICK_PX, y, right, y),
    ):
        draw.line(tick, fill=QUIET)
    for letter, place, anchor in (
        (plane.left, (_LETTER_AT_PX, bottom / 2), "lm"),
        (plane.right, (right - _LETTER_AT_PX, bottom / 2), "rm"),
        (plane.top, (right / 2, _LETTER_AT_PX), "mt"),
        (plane.bottom, (right / 2, bottom - _LETTER_AT_PX), "mb"),
    ):
        write(draw, place, letter, size_px=_LETTER_PX, anchor=anchor, outline_px=2)


def _legend_entries(scene: _Scene, label_names: Mapping[int, str]) -> list[LegendEntry]:
    """List the labels present, those that the planes cut first, otherwise in order of value."""
    cut = {
        value
        for plane in PLANES
        for value in np.unique(_section(scene.labels, scene, plane)).tolist()
    }
    counts = _voxel_counts(scene.labels)
    present = [value for value in np.flatnonzero(counts).tolist() if value != 0]
    return [
        LegendEntry(
            colour=tuple(scene.colours[value].tolist()),
            name=label_names.get(value, str(value)),
            volume_ml=counts[value] * scene.voxel_ml,
        )
        for value in sorted(present, key=lambda value: (value not in cut, value))
    ]


def _voxel_counts(labels: np.ndarray) -> np.ndarray:
    size = int(labels.max(initial=0)) + 1
    counts = np.zeros(size, np.int64)
    for plane in labels:
        counts += np.bincount(plane.ravel(), minlength=size)
    return counts


def _compose(
    panels: list[Image.Image], legend: Image.Image, title: str, subtitle: str
) -> Image.Image:
    """Combine title, panels side by side, legend to their right, and notice below."""
    blocks = [*panels, legend]
    width = sum(block.width + _MARGIN_PX for block in blocks) + _MARGIN_PX
    height = _HEADER_PX + max(block.height for block in blocks) + _FOOTER_PX
    picture = Image.new("RGB", (width, height), BACKGROUND)
    left = _MARGIN_PX
    for block in blocks:
        picture.paste(block, (left, _HEADER_PX))
        left += block.width + _MARGIN_PX
    draw = ImageDraw.Draw(picture)
    inner = width - 2 * _MARGIN_PX
    write(draw, (_MARGIN_PX, 28), title, size_px=_TITLE_PX, width_px=inner)
    write(draw, (_MARGIN_PX, 54), subtitle, colour=QUIET, width_px=inner)
    write(draw, (_MARGIN_PX, height - _FOOTER_PX / 2), NOTICE, colour=_NOTICE_COLOUR)
    return picture
