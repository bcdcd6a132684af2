"""Chart of int8's effect on each layer: the Dice it costs beside its saving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from segmaformer.calibration.search import Placed
from segmaformer.calibration.sensitivity import Harm
from segmaformer.runtime.results.legend import BACKGROUND, QUIET, Colour, write
from segmaformer.runtime.system.atomic import atomic_file

KEPT: Colour = (86, 180, 233)
LEFT: Colour = (230, 159, 0)
MOST_ROWS = 40
DECADES = (-6, -1)
"""Powers of ten that bars of lost Dice and the plot's axis span; less is drawn as nothing."""

_MARGIN_PX, _HEADER_PX, _ROW_PX, _TEXT_PX = 24, 96, 16, 12
_NAME_PX, _BAR_PX, _GAP_PX, _PLOT_PX = 190, 200, 16, 260
_WIDTH_PX = _NAME_PX + 2 * (_BAR_PX + _GAP_PX) + _PLOT_PX


def write_harm_picture(path: Path, placed: Sequence[Placed], *, title: str) -> None:
    """Write the charts of all variants, one below the other, as PNG, atomically.

    Raises
    ------
    OSError
        `path` cannot be written.
    """
    panels = [draw_harms(each, title=title) for each in placed]
    picture = Image.new("RGB", (panels[0].width, sum(each.height for each in panels)), BACKGROUND)
    top = 0
    for panel in panels:
        picture.paste(panel, (0, top))
        top += panel.height
    with atomic_file(path) as stream:
        picture.save(stream, format="PNG")


def draw_harms(placed: Placed, *, title: str) -> Image.Image:
    """Draw a bar for each layer, the most harmful first, and a plot of harm against saving.

    Parameters
    ----------
    placed
        A variant whose harms were measured.
    title
        Title, such as the network's name.

    Returns
    -------
    PIL.Image.Image
        An RGB image.
    """
    ranked = sorted(placed.harms, key=lambda each: (each.harm, each.changed), reverse=True)
    shown = ranked[:MOST_ROWS]
    height = _HEADER_PX + max(_ROW_PX * (len(shown) + 1), _PLOT_PX + 60) + _MARGIN_PX
    picture = Image.new("RGB", (_WIDTH_PX + 2 * _MARGIN_PX, height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    _draw_header(draw, placed, title)
    greatest = max((each.step.saving for each in ranked), default=1.0)
    for row, harm in enumerate(shown):
        _draw_row(draw, harm, _HEADER_PX + row * _ROW_PX, greatest, _colour(placed, harm))
    if len(ranked) > len(shown):
        middle = _HEADER_PX + (len(shown) + 0.5) * _ROW_PX
        rest = f"and {len(ranked) - len(shown)} less harmful"
        write(draw, (_MARGIN_PX, middle), rest, colour=QUIET, size_px=_TEXT_PX)
    _draw_plot(draw, placed, ranked, greatest)
    return picture


def _colour(placed: Placed, harm: Harm) -> Colour:
    variant = placed.variant
    chosen = variant.layers if harm.step.mode == "int8" else variant.weights_only
    return KEPT if harm.step.layer.name in chosen else LEFT


def _draw_header(draw: ImageDraw.ImageDraw, placed: Placed, title: str) -> None:
    parity = placed.judgement.parity
    head = f"{title}  ·  {placed.variant.flavour.variant}"
    result = (
        f"{len(placed.variant.layers)} layers in int8: {parity.agreement:.3%} of labels equal to "
        f"fp32, lowest Dice {placed.judgement.lowest_dice:.4f}"
    )
    write(draw, (_MARGIN_PX, 24), head, size_px=18, width_px=_WIDTH_PX / 2)
    write(draw, (_MARGIN_PX, 48), result, colour=QUIET, width_px=_WIDTH_PX)
    left = _MARGIN_PX + _NAME_PX
    for words, place, colour in (
        ("kept", left + 2 * (_BAR_PX + _GAP_PX), KEPT),
        ("left in float32", left + 2 * (_BAR_PX + _GAP_PX) + 60, LEFT),
        ("Dice lost alone, log scale", left, QUIET),
        ("saved of arithmetic and bytes", left + _BAR_PX + _GAP_PX, QUIET),
    ):
        write(draw, (place, _HEADER_PX - 16), words, colour=colour, size_px=_TEXT_PX)


def _draw_row(
    draw: ImageDraw.ImageDraw, harm: Harm, top: int, greatest: float, colour: Colour
) -> None:
    middle = top + _ROW_PX / 2
    name = harm.step.layer.name + " (weights)" * (harm.step.mode == "weights")
    write(draw, (_MARGIN_PX, middle), name, size_px=_TEXT_PX, width_px=_NAME_PX - 12)
    left = _MARGIN_PX + _NAME_PX
    for share, words in (
        (_decades(harm.harm), f"{harm.harm:.1g}"),
        (harm.step.saving / greatest, f"{harm.step.saving:.1%}"),
    ):
        # Leave room for the number beside the longest bar.
        right = left + share * (_BAR_PX - 48)
        if right > left:
            draw.rectangle((left, top + 3, right, top + _ROW_PX - 3), fill=colour)
        write(draw, (right + 6, middle), words, colour=QUIET, size_px=_TEXT_PX)
        left += _BAR_PX + _GAP_PX


def _draw_plot(
    draw: ImageDraw.ImageDraw, placed: Placed, harms: Sequence[Harm], greatest: float
) -> None:
    left = _MARGIN_PX + _NAME_PX + 2 * (_BAR_PX + _GAP_PX) + 44
    side, top = _PLOT_PX - 60, _HEADER_PX + 8
    draw.line((left, top, left, top + side, left + side, top + side), fill=QUIET)
    for power in range(DECADES[0], DECADES[1] + 1):
        middle = top + side * (1 - _decades(10.0**power))
        draw.line((left - 4, middle, left, middle), fill=QUIET)
        write(draw, (left - 8, middle), f"1e{power}", colour=QUIET, size_px=10, anchor="rm")
    for harm in harms:
        x = left + side * harm.step.saving / greatest
        y = top + side * (1 - _decades(harm.harm))
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_colour(placed, harm))
    below = top + side + 16
    write(draw, (left, below), "0", colour=QUIET, size_px=10)
    right = f"saves {greatest:.1%}"
    write(draw, (left + side, below), right, colour=QUIET, size_px=10, anchor="rm")
    write(draw, (left, below + 18), "Dice lost against saving", colour=QUIET, size_px=_TEXT_PX)


def _decades(harm: float) -> float:
    """Return the place of a lost Dice on the logarithmic axis, 0 to 1."""
    low, high = DECADES
    return min(1.0, max(0.0, (math.log10(max(harm, 10.0**low)) - low) / (high - low)))
