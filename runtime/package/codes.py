"""Codes of labels, by which other systems know what a label means.

A code is a DICOM code: a coding scheme, a value and the value's meaning in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from segmaformer.runtime.package.typed_json import build_value, load_json_object
from segmaformer.runtime.spec import Output

SNOMED_CT = "SCT"
LONGEST = {"scheme": 16, "value": 16, "meaning": 64}
"""Number of characters that DICOM allows in each part of a code."""

_CONCEPT = re.compile(r"[1-9][0-9]{2,12}[01]0[0-9]")


@dataclass(frozen=True)
class Code:
    """One DICOM code, such as ``SCT``, ``10200004``, ``Liver``."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class LabelCodes:
    """Codes of one label.

    Attributes
    ----------
    category, type
        Kind of property and the property itself, such as Anatomical Structure and Kidney.
    modifier
        What narrows the type down, such as Left; None if nothing does.
    """

    category: Code
    type: Code
    modifier: Code | None = None


def coded_names(output: Output) -> list[str]:
    """List the names that may have codes: of the regions if there are any, else of the labels."""
    if output.regions:
        return [region.name for region in output.regions]
    return [label.name for label in output.labels if label.value != 0]


def parse_codes(text: str | bytes, name: str) -> dict[str, LabelCodes]:
    """Read codes by label name from JSON; `name` is the document's name in messages.

    Raises
    ------
    PackageError
        The text is no JSON, or a field is missing, unknown or of the wrong type.
    """
    document = load_json_object(text, name)
    codes: dict[str, LabelCodes] = build_value(dict[str, LabelCodes], document, name)
    return codes


def code_complaints(codes: Mapping[str, LabelCodes], output: Output) -> Iterator[str]:
    """List what is wrong with well-formed codes of a package's labels."""
    known = coded_names(output)
    for name, label in codes.items():
        if name not in known:
            yield f"codes names {name!r:.80}; expected one of {', '.join(known)}"
        for part in fields(label):
            code = getattr(label, part.name)
            if code is not None:
                yield from _complaints(code, f"codes.{name!r:.80}.{part.name}")


def _complaints(code: Code, where: str) -> Iterator[str]:
    for part, most in LONGEST.items():
        text = getattr(code, part)
        if not 1 <= len(text) <= most or text != text.strip() or not text.isprintable():
            yield f"{where}.{part} is {text!r:.80}; expected 1 to {most} printable characters"
        elif "\\" in text:
            yield f"{where}.{part} is {text!r:.80}; DICOM allows no backslash in it"
    if code.scheme == SNOMED_CT and not _is_concept(code.value):
        yield (
            f"{where}.value is {code.value!r:.80}, which is no concept of SNOMED CT: its digits "
            "do not give its check digit"
        )


def _is_concept(value: str) -> bool:
    """Tell if the digits are a SNOMED CT concept's, by the scheme of Verhoeff (1969)."""
    if not _CONCEPT.fullmatch(value):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = _turned(check, _permuted(int(digit), place % 8))
    return check == 0


def _turned(first: int, second: int) -> int:
    """Multiply two elements of the symmetries of a pentagon: 0 to 4 turn it, 5 to 9 mirror it."""
    turn = second % 5 if first < 5 else -(second % 5)
    return (first + turn) % 5 + 5 * ((first < 5) != (second < 5))


def _permuted(digit: int, times: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit
