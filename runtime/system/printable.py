"""Texts that are not to be trusted, as a terminal, a page or a document may show them.

File names, headers, manifests and checkpoints are other people's texts. A control character in
one can move the cursor, begin a line of its own or change the terminal's title; a format
character can reverse what is read. Both are shown by their numbers.
"""

from __future__ import annotations

import unicodedata

UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, formats (bidi among them), surrogates, line and paragraph ends."""


def printable(text: str) -> str:
    """`text` on one line, with each character of :data:`UNPRINTABLE` as an escape of Python's."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def printable_block(text: str) -> str:
    """:func:`printable` for each line of a text whose line ends are the program's own."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in UNPRINTABLE:
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
