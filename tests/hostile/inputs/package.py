"""Packages that were damaged, altered or made to do harm."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile.hostile_input import TAKEN, UNVERIFIED, USAGE, HostileInput
from support.packages.manifest_cases import (
    CONTRADICTIONS,
    HOSTILE_NAMES,
    MISSING,
    NO_OBJECTS,
    OTHER_VERSIONS,
    WRONG_FIELDS,
    changed,
)
from support.packages.samples import flip_byte, sample_manifest

from segmaformer.runtime.package.manifest import FileRecord
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.seal import seal
from segmaformer.runtime.package.writer import write_files

FILES = {"fp32.onnx": b"a network", "card.md": b"# Card\n"}
MANIFEST = "manifest.json"


def write_package(folder: Path) -> Path:
    package = folder / "model.sgmf"
    package.mkdir()
    write_files(package, sample_manifest(), FILES)
    return package


def with_manifest(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        package = write_package(folder)
        (package / MANIFEST).write_bytes(content)
        return package

    return write


def sealed(text: str) -> Callable[[Path], Path]:
    """Seal a manifest again as its author might."""
    indented = text.replace("{", "{\n", 1) if text.startswith("{") else text
    return with_manifest(seal(indented))


def altered(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        package = write_package(folder)
        change(package)
        return package

    return write


def inputs() -> Iterator[HostileInput]:
    writers: dict[str, Callable[[Path], Path]] = {}
    for place, value, _ in [*WRONG_FIELDS, *CONTRADICTIONS]:
        shown = "left out" if value is MISSING else repr(value)[:60]
        writers[f"{place}: {shown}"] = sealed(changed(place, value))
    for version, _ in OTHER_VERSIONS:
        shown = "left out" if version is MISSING else repr(version)[:20]
        writers[f"version {shown}"] = sealed(changed("format_version", version))
    for text, _ in NO_OBJECTS:
        if isinstance(text, str):
            writers[f"JSON {text[:20]!r}"] = sealed(text)
    for name in HOSTILE_NAMES:
        files = {**sample_manifest().files, name: FileRecord("0" * 64, 1)}
        text = dataclasses.replace(sample_manifest(), files=files).to_json()
        writers[f"a file named {name!r}"] = with_manifest(seal(text))
    writers |= {name: altered(change) for name, change in _CHANGES.items()}
    yield HostileInput("intact", write_package, Package.open, TAKEN)
    yield HostileInput("a surplus file", altered(_surplus), Package.open, TAKEN)
    yield HostileInput("nowhere", lambda folder: folder / "model.sgmf", Package.open, USAGE)
    for name, write in writers.items():
        yield HostileInput(name, write, Package.open, UNVERIFIED)


def _surplus(package: Path) -> None:
    (package / "harmful.so").write_bytes(b"never loaded")


def _linked(package: Path, name: str, target: str) -> None:
    (package / name).unlink()
    (package / name).symlink_to(target)


def _replaced_by(package: Path, name: str, make: Callable[[Path], object]) -> None:
    (package / name).unlink()
    make(package / name)


def _moved_out(package: Path) -> None:
    (package / "fp32.onnx").rename(package.parent / "fp32.onnx")
    (package / "fp32.onnx").symlink_to("../fp32.onnx")


def _of_size(package: Path, size: int) -> None:
    """Write a file of the size in the manifest that takes next to no space on the disk."""
    files = {"fp32.onnx": FileRecord("0" * 64, size)}
    manifest = dataclasses.replace(sample_manifest(), files=files)
    (package / MANIFEST).write_bytes(seal(manifest.to_json()))


_CHANGES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda package: (package / MANIFEST).unlink(),
    "an empty manifest": lambda package: (package / MANIFEST).write_bytes(b""),
    "a manifest without its seal": lambda package: (package / MANIFEST).write_text(
        sample_manifest().to_json()
    ),
    "a manifest of zeros": lambda package: (package / MANIFEST).write_bytes(bytes(1000)),
    "a manifest of a gigabyte": lambda package: os.truncate(package / MANIFEST, 10**9),
    "a flipped bit of the manifest": lambda package: flip_byte(package / MANIFEST, 300),
    "a flipped bit of the seal": lambda package: flip_byte(package / MANIFEST, 30),
    "a flipped bit of the network": lambda package: flip_byte(package / "fp32.onnx", 3),
    "a network cut off": lambda package: os.truncate(package / "fp32.onnx", 3),
    "a network with more bytes": lambda package: os.truncate(package / "fp32.onnx", 10**9),
    "no network": lambda package: (package / "fp32.onnx").unlink(),
    "a folder for a network": lambda package: _replaced_by(package, "fp32.onnx", Path.mkdir),
    "a pipe for a network": lambda package: _replaced_by(package, "fp32.onnx", os.mkfifo),
    "a pipe for a manifest": lambda package: _replaced_by(package, MANIFEST, os.mkfifo),
    "a link out of the package": _moved_out,
    "a link to a device": lambda package: _linked(package, "fp32.onnx", "/dev/zero"),
    "a link to itself": lambda package: _linked(package, "fp32.onnx", "fp32.onnx"),
    "a dangling link": lambda package: _linked(package, "card.md", "nowhere"),
    "a manifest that is a link": lambda package: _linked(package, MANIFEST, "/etc/passwd"),
    "a file of 2^62 bytes, so it says": lambda package: _of_size(package, 2**62),
}
