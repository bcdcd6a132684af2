"""Headers that are lines of text: those of NRRD and MetaImage.

Their fields are checked one by one before they become numbers or file names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.finding import Finding

# The longest real headers list thousands of diffusion gradients or segments.
_MOST_BYTES = 1 << 20
# More digits than any number of voxels has; int() takes quadratic time in them.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class TextHeader:
    """Fields of a header by name.

    Attributes
    ----------
    path
        Path of the file, for messages and for detached data beside it.
    fields
        Text of each field as it is in the file.
    end
        Number of bytes up to the end of the header.
    """

    path: Path
    fields: dict[str, str]
    end: int

    def get(self, name: str, default: str = "") -> str:
        """Return the text of a field, or `default` if there is none."""
        return self.fields.get(name, default)

    def text(self, name: str) -> str:
        """Return the text of a field.

        Raises
        ------
        InputError
            There is no such field.
        """
        if name not in self.fields:
            raise InputError(
                f"{self.path}: the header has no {name!r}, which every scan needs. "
                "The file is damaged, or its writer is at fault"
            )
        return self.fields[name]

    def integers(self, name: str, count: int, *, default: str | None = None) -> tuple[int, ...]:
        """Return exactly `count` whole numbers, of the text `default` if there is no such field.

        Raises
        ------
        InputError
            The field is missing or has another form.
        """
        text = self.text(name) if default is None else self.get(name, default)
        words = text.split()
        if len(words) != count or not all(_INTEGER.fullmatch(word) for word in words):
            raise InputError(
                f"{self.path}: the header gives {name!r} as {_shortened(text)!r}; "
                f"expected whole numbers, {count} of them"
            )
        return tuple(int(word) for word in words)

    def sizes(self, name: str, count: int, *, default: str | None = None) -> tuple[int, ...]:
        """Return lengths of axes; otherwise as :meth:`integers`.

        Raises
        ------
        InputError
            As for :meth:`integers`; also if a length is not above zero.
        """
        lengths = self.integers(name, count, default=default)
        if min(lengths) < 1:
            raise InputError(f"{self.path}: the header gives the impossible shape {[*lengths]}")
        return lengths

    def numbers(self, name: str, count: int, *, text: str | None = None) -> tuple[float, ...]:
        """Return exactly `count` finite numbers, of `text` if that is a part of the field.

        Raises
        ------
        InputError
            The field is missing.
        GeometryError
            The field has another form. All fractions in headers are places in space.
        """
        text = self.text(name) if text is None else text
        try:
            values = tuple(float(word) for word in text.split())
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            raise GeometryError(
                f"{self.path}: the header gives {name!r} as {_shortened(text)!r}; expected "
                f"finite numbers, {count} of them. Correct the header or convert the scan again"
            )
        return values

    def detached_file(self, name: str) -> Path:
        """Return the file that a field names, beside the header or in a folder below.

        Raises
        ------
        InputError
            The field names several files, or one outside the header's folder, or there is none.
        """
        given = self.text(name)
        if given.split()[:1] == ["LIST"] or "%" in given:
            raise InputError(
                f"{self.path}: the voxels are spread over several files; save them as one"
            )
        place, folder = f"{self.path}: the header takes its voxels from {given!r}", self.path.parent
        try:
            inside = not _climbs(given) and (folder / given).resolve().is_relative_to(
                folder.resolve()
            )
            present = inside and (folder / given).is_file()
        except (OSError, RuntimeError, ValueError):  # no valid name: too long, a loop, a NUL
            inside, present = True, False
        if not inside:
            raise InputError(
                f"{place}, outside its own folder; "
                "put the two files into one folder and correct the header"
            )
        if not present:
            raise InputError(f"{place}, and there is no such file beside it. Copy both files")
        return folder / given


def unplaced(missing: str) -> Finding:
    """Warn that a header does not state the scan's position, so that ITK's default is used."""
    return Finding(
        "warn",
        f"the header does not say how the scan lies in the patient, it has no {missing}; its axes "
        "are taken as ITK takes them, towards left, posterior and superior. Left and right may be "
        "exchanged",
        "Convert the scan again from its source, or add the line if you know how its axes lie.",
    )


def header_lines(stream: BinaryIO, path: Path) -> Iterator[str]:
    """Yield lines of a header without their ends, up to the end of the file.

    Raises
    ------
    InputError
        The lines go on for longer than any header.
    """
    left = _MOST_BYTES
    while line := stream.readline(left):
        left -= len(line)
        if not left:
            raise InputError(
                f"{path}: no header ends within {_MOST_BYTES} bytes; the file is damaged"
            )
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def _climbs(name: str) -> bool:
    """Tell if a file name is absolute or goes upwards, by the rules of any system."""
    names = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.anchor or ".." in path.parts for path in names)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
