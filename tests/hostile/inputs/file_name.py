"""Scans under names that a terminal, a shell or a file system may stumble over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hostile.hostile_input import REFUSED, TAKEN, USAGE, HostileInput
from hostile.inputs.nifti import nifti

NAMES: dict[str, bytes] = {
    "a newline": b"a\nb.nii",
    "a carriage return": b"a\rb.nii",
    "escape sequences": b"\x1b[2J\x1b]0;title\x07.nii",
    "a bell and a backspace": b"\x07\x08.nii",
    "characters of C1": "\x9b2J\x85.nii".encode(),
    "bidi controls": "\u202egnp.\u2066x.nii".encode(),
    "a line separator": "a\u2028b.nii".encode(),
    "no width": "a\u200bb\ufeff.nii".encode(),
    "combining marks": ("e" + "\u0301" * 100 + ".nii").encode(),
    "other scripts": "脳\U0001f9e0.nii".encode(),
    "bytes that are no text": b"\xff\xfe\x80.nii",
    "a leading dash": b"-rf.nii",
    "an option": b"--help.nii",
    "spaces": b"  a  b  .nii",
    "quotes": b"\"'`$(touch ran)`;.nii",
    "a percent sign": b"%s%n%d{0}{x}.nii",
    "markup": b"<script>alert(1)<script>.nii",
    "backslashes": b"a\\x1b\\n.nii",
    "dots at the end": b"scan...nii",
    "two dots": b"...nii",
    "capitals": b"SCAN.NII",
    "an ending inside": b"scan.nii.gz.nii",
    "a name of Windows": b"CON.nii",
    "a channel number": b"scan_0000.nii",
}


def inputs() -> Iterator[HostileInput]:
    for name, file in NAMES.items():
        write = Named(file)
        stem = os.fsdecode(file)[:-4]
        results = (f"{stem}_seg.nii.gz", f"{stem}_seg.run.json")
        yield HostileInput(name, write, None, TAKEN, command=("check", "--", "{path}"))
        infer = ("infer", "-m", "{package}", "-o", "{out}", "--", "{path}")
        yield HostileInput(f"{name}, segmented", write, None, TAKEN, command=infer, left=results)
        broken = Named(file, nifti()[:300])
        yield HostileInput(f"{name}, damaged", broken, None, REFUSED, command=infer)
    longest = b"x" * 251 + b".nii"
    command = ("infer", "{path}", "-m", "{package}", "-o", "{out}")
    yield HostileInput("255 bytes", Named(longest), None, TAKEN, command=("check", "{path}"))
    yield HostileInput("255 bytes, segmented", Named(longest), None, 1, command=command)
    missing = ("check", "{path}\x1b[2J\n/none.nii")
    yield HostileInput("nowhere", Named(b"a.nii"), None, USAGE, command=missing)


class Named:
    """Writes a file of any name."""

    def __init__(self, name: bytes, content: bytes | None = None):
        self._name, self._content = name, content

    def __call__(self, folder: Path) -> Path:
        path = folder / os.fsdecode(self._name)
        path.write_bytes(nifti() if self._content is None else self._content)
        return path
