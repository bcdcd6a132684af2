"""Untrusted texts in a form safe for a terminal, a page or a document.

File names, headers, manifests and checkpoints are other people's texts. A control character in
them can move the cursor, begin a new line or change the terminal's title; a format character can
reverse the text. Both are shown as escapes.
"""

from __future__ import annotations

import unicodedata

UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, formats (bidi among them), surrogates, line and paragraph ends."""


def printable(text: str) -> str:
    """Return `text` on one line, with :data:`UNPRINTABLE` characters as Python's escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def printable_block(text: str) -> str:
    """Apply :func:`printable` to each line of a text whose line ends are the program's own."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in UNPRINTABLE:
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
