"""Transfer syntaxes: how a file's data set and its pixels are encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Coding = Literal["native", "rle", "jpeg", "jpeg-ls", "jpeg2000"]


@dataclass(frozen=True)
class TransferSyntax:
    """Encoding of a data set.

    Attributes
    ----------
    uid
        Its UID.
    explicit, little
        Whether elements state their type, and whether numbers are little endian.
    deflated
        Whether the data set is compressed as a whole.
    coding
        Coding of the pixels; all but ``native`` hold them in fragments.
    decoder
        Module that decodes them; empty if sgmf does itself.
    """

    uid: str
    explicit: bool = True
    little: bool = True
    deflated: bool = False
    coding: Coding = "native"
    decoder: str = ""

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """Order of a number's bytes."""
        return "little" if self.little else "big"


IMPLICIT = TransferSyntax("1.2.840.10008.1.2", explicit=False)
EXPLICIT = TransferSyntax("1.2.840.10008.1.2.1")
BIG_ENDIAN = TransferSyntax("1.2.840.10008.1.2.2", little=False)
_CODINGS: tuple[tuple[Coding, str, tuple[str, ...]], ...] = (
    ("rle", "", ("5",)),
    ("jpeg", "PIL", ("4.50",)),
    ("jpeg", "gdcm", ("4.51", "4.57", "4.70")),
    ("jpeg-ls", "jpeg_ls", ("4.80", "4.81")),
    ("jpeg2000", "openjpeg", ("4.90", "4.91", "4.201", "4.202", "4.203")),
)
_KNOWN = {
    syntax.uid: syntax
    for syntax in (
        IMPLICIT,
        EXPLICIT,
        BIG_ENDIAN,
        TransferSyntax("1.2.840.10008.1.2.1.99", deflated=True),
        *(
            TransferSyntax(f"1.2.840.10008.1.2.{ending}", coding=coding, decoder=decoder)
            for coding, decoder, endings in _CODINGS
            for ending in endings
        ),
    )
}


def transfer_syntax(uid: str) -> TransferSyntax | None:
    """Return the transfer syntax of a UID; None if its pixels cannot be decoded here."""
    return _KNOWN.get(uid)
