from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segmaformer.runtime.results.legend import (
    BACKGROUND,
    LINE_PX,
    LegendEntry,
    draw_legend,
    write,
)


def entries(count: int, name: str = "spleen") -> list[LegendEntry]:
    return [LegendEntry((200, 10, 10 + index), name, 1.5) for index in range(count)]


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (24, 24), (25, 25), (117, 25)])
def test_grows_to_24_rows_and_a_remark(count: int, rows: int) -> None:
    assert draw_legend(entries(count)).size == (300, rows * LINE_PX)


def test_swatches_have_the_colours_of_the_labels_in_order() -> None:
    legend = draw_legend(entries(3))
    swatches = [legend.getpixel((7, round((row + 0.5) * LINE_PX))) for row in range(3)]
    assert swatches == [(200, 10, 10), (200, 10, 11), (200, 10, 12)]


def test_says_that_no_label_was_found() -> None:
    pixels = np.asarray(draw_legend([]))
    assert (pixels != BACKGROUND).any()


def test_the_remark_counts_what_is_left_out() -> None:
    one_more, two_more = draw_legend(entries(25)), draw_legend(entries(26))
    assert one_more.size == two_more.size
    assert one_more.tobytes() != two_more.tobytes()


def test_a_long_name_leaves_room_for_the_volume() -> None:
    pixels = np.asarray(draw_legend(entries(1, name="inferior_vena_cava_" * 4)))
    assert (pixels[:, 212:225] == BACKGROUND).all()
    assert (pixels[:, 225:] != BACKGROUND).any()


@pytest.mark.parametrize(("text", "width"), [("short", 200), ("a title that is far too long", 90)])
def test_text_stays_within_its_width(text: str, width: int) -> None:
    picture = Image.new("RGB", (400, 30))
    write(ImageDraw.Draw(picture), (0, 15), text, width_px=width)
    columns = np.asarray(picture).any((0, 2)).nonzero()[0]
    assert 0 < columns.max() <= width
