"""The pool of memory under ONNX Runtime's tensors: blocks stay apart, pages go round and back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.native_builds import NATIVE, compile_library

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages move on Linux alone")

FACE = """
#include "system/page_pool.h"
extern "C" {
__attribute__((visibility("default"))) sgmf::PagePool* make() { return new sgmf::PagePool; }
__attribute__((visibility("default"))) void drop(sgmf::PagePool* pool) { delete pool; }
__attribute__((visibility("default"))) void* take(sgmf::PagePool* pool, std::size_t bytes) {
  try {
    return pool->allocate(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
__attribute__((visibility("default"))) void give(sgmf::PagePool* pool, void* memory) {
  pool->free(memory);
}
}
"""
MIB = 1 << 20


class Pool:
    """A PagePool through C functions; addresses are numbers."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        self._pool = library.make()

    def take(self, size: int) -> int:
        return self._library.take(self._pool, size) or 0

    def give(self, address: int) -> None:
        self._library.give(self._pool, address)

    def drop(self) -> None:
        self._library.drop(self._pool)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("page_pool")
    (folder / "face.cc").write_text(FACE)
    sources = [folder / "face.cc", NATIVE / "system/page_pool.cc"]
    built = compile_library(folder / "libpool.so", sources, over_op_library=False)
    found = ctypes.CDLL(str(built))
    found.make.restype = found.take.restype = ctypes.c_void_p
    found.drop.argtypes = [ctypes.c_void_p]
    found.take.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    found.give.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return found


@pytest.fixture
def pool(library: ctypes.CDLL) -> Iterator[Pool]:
    made = Pool(library)
    yield made
    made.drop()


def resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


sizes = st.one_of(st.integers(1, 5000), st.integers(MIB, 9 * MIB), st.sampled_from([4 * MIB]))


@given(steps=st.lists(st.tuples(sizes, st.integers(0, 5)), max_size=30))
@settings(max_examples=40, deadline=None)
def test_blocks_keep_what_was_written(library: ctypes.CDLL, steps: list[tuple[int, int]]) -> None:
    pool = Pool(library)
    held: list[tuple[int, int, int]] = []

    def give(index: int) -> None:
        address, size, mark = held.pop(index)
        assert ctypes.string_at(address, size) == bytes([mark]) * size
        pool.give(address)

    for number, (size, wanted) in enumerate(steps):
        address = pool.take(size)
        assert address
        assert address % 64 == 0
        ctypes.memset(address, number + 1, size)
        held.append((address, size, number + 1))
        while len(held) > wanted:
            give(number % len(held))
    while held:
        give(0)
    pool.drop()


def test_pages_of_freed_blocks_serve_others_and_go_back_at_last(pool: Pool) -> None:
    def fill(*mebibytes: int) -> list[int]:
        taken = [pool.take(size * MIB) for size in mebibytes]
        for address, size in zip(taken, mebibytes, strict=True):
            ctypes.memset(address, 1, size * MIB)
        return taken

    before = resident_mib()
    small = pool.take(100)
    for blocks in ((64, 64, 64), (96, 90), (30, 70, 11, 75), (180,)):
        for address in fill(*blocks):
            pool.give(address)
        assert resident_mib() - before < 192 + 8
    pool.give(small)
    assert resident_mib() - before < 8


def test_a_size_is_served_by_the_same_block_again(pool: Pool) -> None:
    kept = pool.take(1)
    first = pool.take(10 * MIB)
    pool.give(first)
    assert pool.take(10 * MIB) == first
    pool.give(first)
    pool.give(kept)


@pytest.mark.parametrize("size", [0, 1 << 62, (1 << 64) - 1])
def test_nothing_and_too_much_give_no_memory(pool: Pool, size: int) -> None:
    assert pool.take(size) == 0
