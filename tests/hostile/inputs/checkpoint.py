"""Checkpoints that are damaged, lie about their weights or want to run a program."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.hostile_input import REFUSED, TAKEN, HostileInput
from hostile.inputs import torch_pickles as pickles
from hostile.inputs.file_name import NAMES, Named
from support.networks.networks import save_tiny_checkpoint

HUGE = 10**12
NAN, INF = float("nan"), float("inf")
END = b"PK\5\6"


@functools.cache
def good() -> bytes:
    """Save a small network as nnU-Net does."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return save_tiny_checkpoint(Path(folder) / "good.pth").read_bytes()


@functools.cache
def weights_alone() -> bytes:
    """Save its weights without plans."""
    return saved(document()["network_weights"])


def document() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = torch.load(io.BytesIO(good()), weights_only=True)
    return found


def saved(content: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def inputs() -> Iterator[HostileInput]:
    for table in (_DAMAGES, _ARCHIVES, _WEIGHTS, _STRANGERS):
        for name, (content, verdict) in table.items():
            yield HostileInput(
                name, written(content), read_checkpoint, verdict, command=command_if(verdict)
            )
    for name, file in NAMES.items():
        write = Named(file.replace(b".nii", b".pth"), b"evil")
        command = ("inspect", "--", "{path}")
        yield HostileInput(f"a name of {name}", write, None, REFUSED, command=command)
    for name in pickles.PROGRAMS:
        for zipped in (True, False):
            content = functools.partial(_with_program, name, zipped)
            form = "zipped" if zipped else "legacy"
            yield HostileInput(f"{name}, {form}", written(content), read_checkpoint, REFUSED)
    for name, tensor in pickles.TENSORS.items():
        content = functools.partial(pickles.archive, tensor)
        yield HostileInput(f"a tensor of {name}", written(content), read_checkpoint, REFUSED)


def command_if(verdict: int) -> tuple[str, ...]:
    """Return what is asked of ``sgmf`` here; the kind ``export`` has the refused ones."""
    return ("inspect", "{path}") if verdict == TAKEN else ()


def written(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "model.pth").write_bytes(content())
        return folder / "model.pth"

    return write


def read_checkpoint(path: Path) -> None:
    """Load it; what is taken has the weights of the good one."""
    import torch

    from segmaformer.checkpoint import load_checkpoint

    loaded = load_checkpoint(path).model.state_dict()
    expected = document()["network_weights"]
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor), name


def _with_program(name: str, zipped: bool) -> bytes:
    found = {**document(), "logging": pickles.PROGRAMS[name]}
    return saved(found, _use_new_zipfile_serialization=zipped)


def _flipped(at: int) -> Callable[[], bytes]:
    def content() -> bytes:
        changed = bytearray(good())
        changed[at if at >= 0 else len(changed) + at] ^= 0x10
        return bytes(changed)

    return content


def _flipped_weight() -> bytes:
    changed = bytearray(good())
    with zipfile.ZipFile(io.BytesIO(good())) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    changed[largest.header_offset + largest.file_size // 2 + 200] ^= 0x10
    return bytes(changed)


def _other_checksum() -> bytes:
    directory = good().rindex(b"PK\1\2")
    return good()[: directory + 16] + b"\1\2\3\4" + good()[directory + 20 :]


_DAMAGES: dict[str, tuple[Callable[[], bytes], int]] = {
    "good": (good, TAKEN),
    "good, in the legacy format": (
        lambda: saved(document(), _use_new_zipfile_serialization=False),
        TAKEN,
    ),
    "nothing": (lambda: b"", REFUSED),
    **{
        f"cut off at {name}": (lambda end=end: good()[:end], REFUSED)  # type: ignore[misc]
        for name, end in {
            "4 bytes": 4,
            "a kilobyte": 1000,
            "100 kilobytes": 100_000,
            "the directory": -2000,
            "the last record": -22,
            "the last byte": -1,
        }.items()
    },
    "half of the legacy format": (
        lambda: saved(document(), _use_new_zipfile_serialization=False)[:40_000],
        REFUSED,
    ),
    "a flipped bit of a weight": (_flipped_weight, REFUSED),
    "a flipped bit of the pickle": (_flipped(300), REFUSED),
    "a flipped bit of the directory": (_flipped(-2000), REFUSED),
    "another checksum": (_other_checksum, REFUSED),
    "zeros of the same size": (lambda: bytes(len(good())), REFUSED),
    "twice in one file": (lambda: good() + good(), TAKEN),
    "bytes before it": (lambda: b"#!/bin/sh\n" + good(), REFUSED),
    "bytes after it": (lambda: good() + b"more", TAKEN),
}


def _rezipped(
    more: dict[str, bytes] | None = None, *, method: int = zipfile.ZIP_STORED, top: str = "archive"
) -> bytes:
    """Write the good archive anew, with further members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good())) as archive, zipfile.ZipFile(stream, "w", method) as to:
        for member in archive.namelist():
            to.writestr(f"{top}/{member.partition('/')[2]}", archive.read(member))
        for name, content in (more or {}).items():
            to.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def _end(field: int, form: str, value: int) -> Callable[[], bytes]:
    """Give the good archive with another field of the record at its end."""

    def content() -> bytes:
        changed = bytearray(_rezipped())
        struct.pack_into(form, changed, changed.rindex(END) + field, value)
        return bytes(changed)

    return content


def _zip64(entries: int, directory_bytes: int, *, at: int | None = None) -> bytes:
    """Give the good archive with the long record before the short one."""
    plain = _rezipped()
    end = plain.rindex(END)
    size, offset = struct.unpack_from("<LL", plain, end + 12)
    entries = entries or struct.unpack_from("<H", plain, end + 10)[0]
    numbers = 44, 45, 45, 0, 0, entries, entries, directory_bytes or size, offset
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", *numbers)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end if at is None else at, 1)
    return plain[:end] + record + locator + plain[end:]


def _directory_of_another() -> bytes:
    """Give a directory where the record says, and another where zip programs look for it."""
    first, second = _rezipped(), _rezipped({"archive/note": b"x"})
    return first[: first.rindex(END)] + second[second.index(b"PK\1\2") :]


def _overlapping() -> bytes:
    """Write two entries of one content, as bombs without recursion have them."""
    plain = bytearray(_rezipped())
    first = plain.index(b"PK\1\2")
    second = plain.index(b"PK\1\2", first + 4)
    struct.pack_into("<L", plain, second + 42, struct.unpack_from("<L", plain, first + 42)[0])
    return bytes(plain)


def _pairs() -> bytes:
    """Give an archive of 30,000 members, of which the last two have one name."""
    plain = _plain_zip({f"archive/{index:05}": b"" for index in range(30_000)})
    return plain.replace(b"archive/29999", b"archive/29998")


def _bomb() -> bytes:
    return _rezipped({"archive/data/999": bytes(50_000_000)}, method=zipfile.ZIP_DEFLATED)


_ARCHIVES: dict[str, tuple[Callable[[], bytes], int]] = {
    "another top folder": (lambda: _rezipped(top="x"), TAKEN),
    "compressed members": (lambda: _rezipped(method=zipfile.ZIP_DEFLATED), TAKEN),
    "a member that leaves the folder": (lambda: _rezipped({"../../evil": b"x"}), REFUSED),
    "a member of an absolute name": (lambda: _rezipped({"/etc/evil": b"x"}), REFUSED),
    "a member twice": (lambda: _rezipped({"archive/data.pkl": b"x"}), REFUSED),
    "a second pickle": (lambda: _rezipped({"other/data.pkl": b"x"}), REFUSED),
    "TorchScript": (lambda: _rezipped({"archive/constants.pkl": b"x"}), REFUSED),
    "no entries, says its end": (_end(10, "<H", 0), REFUSED),
    "more entries than there are": (_end(10, "<H", 60_000), REFUSED),
    "a directory beyond the file": (_end(16, "<L", 0xFFFFFFF0), REFUSED),
    "a directory of gigabytes": (_end(12, "<L", 0xFFFFFFF0), REFUSED),
    "a comment that is not there": (_end(20, "<H", 60_000), TAKEN),
    "zip64": (lambda: _zip64(0, 0), TAKEN),
    "zip64 of 2^60 entries": (lambda: _zip64(2**60, 0), REFUSED),
    "zip64 with a directory of 2^60 bytes": (lambda: _zip64(0, 2**60), REFUSED),
    "zip64 that points nowhere": (lambda: _zip64(0, 0, at=2**60), REFUSED),
    "zip64 that points to the beginning": (lambda: _zip64(0, 0, at=0), REFUSED),
    "a second directory": (_directory_of_another, REFUSED),
    "members that overlap": (_overlapping, REFUSED),
    "a bomb": (_bomb, REFUSED),
    "40,000 empty members": (
        lambda: _rezipped({f"archive/{index}": b"" for index in range(40_000)}),
        REFUSED,
    ),
    "30,000 empty members, the last one twice": (_pairs, REFUSED),
    "no pickle": (lambda: _plain_zip({"archive/version": b"3\n"}), REFUSED),
    "a pickle alone": (lambda: _plain_zip({"archive/data.pkl": b"\x80\x02}q\x00."}), REFUSED),
    "a zip of a checkpoint": (lambda: _plain_zip({"model.pth": good()}), REFUSED),
    "an empty zip": (lambda: _plain_zip({}), REFUSED),
}


def _plain_zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[], bytes]:
    """Give the good document with other weights."""

    def content() -> bytes:
        found = document()
        change(found["network_weights"])
        return saved(found)

    return content


BIAS = "decoder.pred.bias"


def _filled(value: float) -> Callable[[], bytes]:
    return _changed(lambda weights: weights[BIAS].fill_(value))


def _as(kind: str) -> Callable[[], bytes]:
    import torch

    return _changed(lambda weights: weights.update({BIAS: weights[BIAS].to(getattr(torch, kind))}))


def _averaged() -> bytes:
    found = document()
    weights = found["network_weights"]
    return saved({"state_dict": weights, "ema": {"shadow": {**weights}}})


def _nested(depth: int) -> bytes:
    found: Any = document()["network_weights"]
    for _ in range(depth):
        found = {"a": found}
    return saved(found)


_WEIGHTS: dict[str, tuple[Callable[[], bytes], int]] = {
    "a weight of NaN": (_filled(NAN), REFUSED),
    "a weight of infinity": (_filled(INF), REFUSED),
    "a weight of whole numbers": (lambda: _as("int64")(), REFUSED),
    "a weight of complex numbers": (lambda: _as("complex64")(), REFUSED),
    "a weight of truths": (lambda: _as("bool")(), REFUSED),
    "a weight less": (_changed(lambda weights: weights.pop(BIAS)), REFUSED),
    "a weight more": (_changed(lambda w: w.update({"evil\x1b[2J": w[BIAS]})), REFUSED),
    "a weight that is a text": (_changed(lambda weights: weights.update({BIAS: "x"})), REFUSED),
    "a weight of another shape": (
        _changed(lambda weights: weights.update({BIAS: weights[BIAS][:2].clone()})),
        REFUSED,
    ),
    "a weight of no values": (
        _changed(lambda weights: weights.update({BIAS: weights[BIAS][:0].clone()})),
        REFUSED,
    ),
    "weights under a name of a megabyte": (
        _changed(lambda weights: weights.update({"x" * 1_000_000: weights.pop(BIAS)})),
        REFUSED,
    ),
    "an average beside it": (_averaged, REFUSED),
    "a deep nest": (lambda: _nested(300), REFUSED),
    "a list of weights": (lambda: saved([*document()["network_weights"].values()]), REFUSED),
    "no weights": (lambda: saved({}), REFUSED),
    "a number": (lambda: saved(3), REFUSED),
}

_STRANGERS: dict[str, tuple[Callable[[], bytes], int]] = {
    "an LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        REFUSED,
    ),
    "a page of HTML": (lambda: b"<!DOCTYPE html>\n<html><body>404</body></html>\n" * 9, REFUSED),
    "a page that begins with spaces": (lambda: b"\n\n  <html><body>404</body></html>", REFUSED),
    "an error in JSON": (lambda: b'{"error": "Not Found\\u001b[2J"}', REFUSED),
    "gzip": (lambda: gzip.compress(good(), mtime=0), REFUSED),
    "gzip, twice": (lambda: gzip.compress(gzip.compress(good(), mtime=0), mtime=0), REFUSED),
    "gzip of nothing": (lambda: gzip.compress(b"", mtime=0), REFUSED),
    "escape sequences": (lambda: b"\x1b]0;title\x07\x1b[2J" * 30, REFUSED),
    "noise": (lambda: bytes(range(256)) * 40, REFUSED),
    "a plain pickle": (lambda: pickles.plain("posix.system"), REFUSED),
}
