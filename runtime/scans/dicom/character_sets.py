"""Texts of a header in the character sets that it states."""

from __future__ import annotations

import contextlib
import warnings

from segmaformer.runtime.scans.dicom.elements import Element, Elements
from segmaformer.runtime.scans.dicom.keywords import tag_of, type_of

_TEXTS = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_ESCAPE = b"\x1b"


def encode_texts_as_utf8(elements: Elements) -> None:
    """Replace texts in other character sets by the same in UTF-8, as far as they can be decoded."""
    stated = elements.get(tag_of("SpecificCharacterSet") or 0)
    foreign = [
        tag
        for tag, element in elements.items()
        if type_of(tag) in _TEXTS and (not element.value.isascii() or _ESCAPE in element.value)
    ]
    if stated is None or not foreign:
        return
    from pydicom.charset import convert_encodings, decode_bytes

    with warnings.catch_warnings(), contextlib.suppress(LookupError, ValueError):
        warnings.simplefilter("ignore")
        encodings = convert_encodings([*stated.texts])
        for tag in foreign:
            text = decode_bytes(elements[tag].value, encodings, set())
            elements[tag] = Element(text.encode(), elements[tag].little)
