from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.byte_source import ByteSource, is_gzip

CONTENT = np.random.default_rng(0).bytes(70_000) + bytes(70_000)


def read_all(stream: BinaryIO, piece: int = 4096) -> bytes:
    return b"".join(iter(lambda: stream.read(piece), b""))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
@pytest.mark.parametrize("piece", [1000, 65_536, 1_000_000])
def test_what_was_compressed_comes_back(
    tmp_path: Path, pack: Callable[[bytes], bytes], piece: int
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"header" + pack(CONTENT))
    with ByteSource(path, start=6, compressed=True).open() as stream:
        assert read_all(stream, piece) == CONTENT


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5),
    piece=st.integers(1, 5000),
    garbage=st.binary(max_size=3),
)
def test_gzip_members_follow_one_another(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], piece: int, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("members") / "data.gz"
    parts = [CONTENT[:size] for size in sizes]
    path.write_bytes(b"".join(map(gzip.compress, parts)) + garbage.replace(b"\x1f", b""))
    with ByteSource(path, compressed=True).open() as stream:
        assert read_all(stream, piece) == b"".join(parts)


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_the_next_member_may_begin_where_a_piece_of_the_file_ends(
    tmp_path: Path, waiting: int
) -> None:
    first = next(
        content
        for size in range(65_536, 65_400, -1)
        if len(gzip.compress(content := CONTENT[:size], 0, mtime=0)) == 65_536 - waiting
    )
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(first, 0, mtime=0) + gzip.compress(b"second", mtime=0))
    with ByteSource(path, compressed=True).open() as stream:
        assert read_all(stream) == first + b"second"


def test_a_start_and_a_skip_are_passed_over(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(CONTENT)
    packed.write_bytes(b"xy" + gzip.compress(CONTENT, mtime=0))
    with ByteSource(plain, start=100, skip=70_000).open() as stream:
        assert read_all(stream) == CONTENT[70_100:]
    with ByteSource(packed, 2, compressed=True, skip=70_100).open() as stream:
        assert read_all(stream) == CONTENT[70_100:]


def test_the_end_of_a_file_leaves_its_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    assert ByteSource.at_end(path, 30, after=10).start == 70
    assert ByteSource.at_end(path, 95, after=10).start == 10


@pytest.mark.parametrize("damage", ["cut", "cut in the trailer", "flipped", "checksum", "empty"])
def test_damaged_compression_is_reported(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "data.gz"
    content = bytearray(gzip.compress(CONTENT, mtime=0))
    if damage.startswith("cut"):
        del content[-3000 if damage == "cut" else -1 :]
    elif damage == "empty":
        content.clear()
    else:
        content[20 if damage == "flipped" else -6] ^= 0xFF
    path.write_bytes(content)
    source = ByteSource(path, compressed=True)
    with pytest.raises(InputError, match=r"data\.gz is damaged or was cut off"), source.open() as s:
        read_all(s)


def test_a_skip_past_the_end_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(bytes(10), mtime=0))
    source = ByteSource(path, compressed=True, skip=11)
    with pytest.raises(InputError, match="end before the first voxel"), source.open():
        pass


@pytest.mark.parametrize(
    ("start", "compressed", "skip", "most"),
    [(0, False, 0, 100), (40, False, 0, 60), (0, True, 0, 103_200), (40, True, 20, 61_900)],
)
def test_a_promise_is_held_against_the_size_of_the_file(
    tmp_path: Path, start: int, compressed: bool, skip: int, most: int
) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    source = ByteSource(path, start, compressed, skip)
    source.check_holds(most)
    with pytest.raises(InputError, match=rf"promises {start + skip + most + 1} bytes"):
        source.check_holds(most + 1)


def test_the_best_that_deflate_can_do_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(bytes(20_000_000), 9, mtime=0))
    ByteSource(path, compressed=True).check_holds(20_000_000)


def test_no_more_is_unpacked_than_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000), mtime=0))
    tracemalloc.start()
    try:
        with ByteSource(path, compressed=True).open() as stream:
            assert stream.read(1000) == bytes(1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    for content, known in ((gzip.compress(b"", mtime=0), True), (b"\x1f", False), (b"", False)):
        (tmp_path / "file").write_bytes(content)
        assert is_gzip(tmp_path / "file") is known
