from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmaformer.runtime.system.printable import UNPRINTABLE, printable, printable_block


def test_no_character_that_steers_a_terminal_passes() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        shown = printable(character)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert shown == character.encode("ascii", "backslashreplace").decode() or (
                number < 0x80 and shown == f"\\x{number:02x}"
            )
        else:
            assert shown == character


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_is_on_one_line_and_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(each) for each in shown} & set(UNPRINTABLE)
    assert printable(shown) == shown
    assert printable_block(f"{text}\n{text}".replace("\n", " \n ")).count("\n") == (
        2 * text.count("\n") + 1
    )


@pytest.mark.parametrize("text", ["caf\N{LATIN SMALL LETTER E WITH ACUTE}/脑 01.nii", "a\\x1b", ""])
def test_harmless_texts_stay(text: str) -> None:
    assert printable(text) == text
