"""Legend of a preview, and the style of all its text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

BACKGROUND: Colour = (17, 19, 22)
QUIET: Colour = (150, 155, 162)
TEXT: Colour = (238, 240, 243)
LINE_PX, SMALL_PX = 24, 14
WIDTH_PX = 300
MOST_ENTRIES = 24

_SWATCH_PX, _NAME_AT_PX, _NAME_WIDTH_PX = 14, 24, 186


@dataclass(frozen=True)
class LegendEntry:
    """Colour, name and volume in millilitres of a label."""

    colour: Colour
    name: str
    volume_ml: float


def draw_legend(entries: Sequence[LegendEntry]) -> Image.Image:
    """Draw a row for each of the first 24 entries, and the number of the others.

    Returns
    -------
    PIL.Image.Image
        RGB image, 300 pixels wide.
    """
    shown = entries[:MOST_ENTRIES]
    remark = f"+{len(entries) - len(shown)} more" if len(entries) > len(shown) else ""
    if not entries:
        remark = "no label found"
    height = LINE_PX * (len(shown) + bool(remark))
    legend = Image.new("RGB", (WIDTH_PX, height), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for row, entry in enumerate(shown):
        _draw_entry(draw, entry, middle=(row + 0.5) * LINE_PX)
    write(draw, (_NAME_AT_PX, height - LINE_PX / 2), remark, colour=QUIET)
    return legend


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    colour: Colour = TEXT,
    size_px: int = SMALL_PX,
    anchor: str = "lm",
    width_px: float = math.inf,
    outline_px: int = 0,
) -> None:
    """Write one line in Pillow's own font, so that pictures look alike on all machines.

    Parameters
    ----------
    draw, place
        The picture, and the point in it for `anchor` (Pillow's two letters).
    width_px
        Width in pixels at which longer text is cut and ends in an ellipsis.
    outline_px
        Width in pixels of a black rim, for text on an image.
    """
    font = ImageFont.load_default(size_px)
    if font.getlength(text) > width_px:
        while text and font.getlength(text + "…") > width_px:
            text = text[:-1]
        text += "…"
    draw.text(place, text, colour, font, anchor, stroke_width=outline_px, stroke_fill=(0, 0, 0))


def _draw_entry(draw: ImageDraw.ImageDraw, entry: LegendEntry, *, middle: float) -> None:
    half = _SWATCH_PX / 2
    draw.rectangle((0, middle - half, _SWATCH_PX, middle + half), fill=entry.colour)
    write(draw, (_NAME_AT_PX, middle), entry.name, width_px=_NAME_WIDTH_PX)
    volume = f"{entry.volume_ml:.2f} ml"
    write(draw, (WIDTH_PX, middle), volume, colour=QUIET, anchor="rm")
