"""Folders of scans in which odd things lie."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile.hostile_input import REFUSED, TAKEN, USAGE, HostileInput
from hostile.inputs.nifti import nifti

INFER = ("infer", "{path}", "-m", "{package}", "-o", "{out}")
SEGMENTED = ("scan_seg.nii.gz", "scan_seg.run.json", "summary.json")


def inputs() -> Iterator[HostileInput]:
    yield HostileInput(
        "one scan", _folder(lambda _: None), None, TAKEN, command=INFER, left=SEGMENTED
    )
    for name, (make, verdict, more) in _ODD.items():
        yield HostileInput(
            f"{name} beside it",
            _folder(make),
            None,
            verdict,
            command=INFER,
            left=(*SEGMENTED, *more),
        )
        yield HostileInput(
            f"{name} beside it, checked", _folder(make), None, verdict, command=("check", "{path}")
        )
    for name, make in _EMPTY.items():
        yield HostileInput(name, make, None, REFUSED, command=INFER)
    yield HostileInput("a folder alone", _folder(lambda _: None), None, USAGE, command=INFER[:-2])


def _folder(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Write a folder of one good scan and what `make` adds."""

    def write(folder: Path) -> Path:
        scans = folder / "scans"
        scans.mkdir()
        (scans / "scan.nii").write_bytes(nifti())
        make(scans)
        return scans

    return write


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(before)


def _loop(scans: Path) -> None:
    (scans / "a.nii").symlink_to("b.nii")
    (scans / "b.nii").symlink_to("a.nii")


def _thousands(scans: Path) -> None:
    for index in range(3000):
        (scans / f"note{index}.txt").touch()
        (scans / f".hidden{index}.nii").touch()


def _many_links(scans: Path) -> None:
    for index in range(500):
        (scans / f"l{index}.nii").symlink_to("nowhere")


def _case(scans: Path) -> None:
    (scans / "SCAN.nii").write_bytes(nifti())


def _copy(name: str) -> Callable[[Path], object]:
    return lambda scans: (scans / name).write_bytes(nifti())


# What lies beside a good scan, the verdict and what more is written.
_ODD: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...]]] = {
    "a dangling link": (lambda scans: (scans / "a.nii").symlink_to("nowhere"), REFUSED, ()),
    "a link to itself": (lambda scans: (scans / "a.nii").symlink_to("a.nii"), REFUSED, ()),
    "links in a circle": (_loop, REFUSED, ()),
    "a link to a device": (lambda scans: (scans / "a.nii").symlink_to("/dev/zero"), REFUSED, ()),
    "a link to the folder": (lambda scans: (scans / "a.nii").symlink_to("."), REFUSED, ()),
    "a link to the scan": (
        lambda scans: (scans / "a.nii").symlink_to("scan.nii"),
        TAKEN,
        ("a_seg.nii.gz", "a_seg.run.json"),
    ),
    "a pipe": (lambda scans: os.mkfifo(scans / "a.nii"), REFUSED, ()),
    "a socket": (lambda scans: _socket(scans / "a.nii"), REFUSED, ()),
    "a folder named like a scan": (lambda scans: (scans / "a.nii.gz").mkdir(), REFUSED, ()),
    "a folder of scans": (lambda scans: (scans / "more").mkdir(), TAKEN, ()),
    "an empty scan": (lambda scans: (scans / "a.nii").touch(), REFUSED, ()),
    "a scan of text": (lambda scans: (scans / "a.nii").write_text("evil\x1b[2J"), REFUSED, ()),
    "a scan cut off": (lambda scans: (scans / "a.nii").write_bytes(nifti()[:400]), REFUSED, ()),
    "thousands of other files": (_thousands, TAKEN, ()),
    "500 links to nowhere": (_many_links, REFUSED, ()),
    "a name in capitals": (_case, TAKEN, ("SCAN_seg.nii.gz", "SCAN_seg.run.json")),
    "channel 0": (_copy("a_0000.nii"), TAKEN, ("a_0000_seg.nii.gz", "a_0000_seg.run.json")),
    "channel 1 alone": (_copy("a_0001.nii"), REFUSED, ()),
    "a channel number twice": (
        lambda scans: (_copy("a_0000.nii")(scans), _copy("a.nii")(scans)),
        REFUSED,
        (),
    ),
    "a file of another kind": (lambda scans: (scans / "a.dcm").touch(), TAKEN, ()),
    "a name that is no text": (
        lambda scans: (scans / os.fsdecode(b"\xff\x1b[2J.nii")).touch(),
        REFUSED,
        (),
    ),
    "a name of escape sequences": (
        _copy("\x1b[2J\n.nii"),
        TAKEN,
        ("\x1b[2J\n_seg.nii.gz", "\x1b[2J\n_seg.run.json"),
    ),
}


def _only(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "scans").mkdir()
        make(folder / "scans")
        return folder / "scans"

    return write


_EMPTY: dict[str, Callable[[Path], Path]] = {
    "an empty folder": _only(lambda _: None),
    "hidden scans": _only(lambda scans: (scans / ".scan.nii").write_bytes(nifti())),
    "scans below": _only(lambda scans: (scans / "a").mkdir()),
    "no scans": _only(lambda scans: (scans / "notes.txt").touch()),
}
