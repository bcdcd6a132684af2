"""Headers with bytes changed, left out or cut off: read, or refused, but never anything else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from support.scans.dicom_files import Series, save

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.compressed.fragments import frame_spans
from segmaformer.runtime.scans.dicom.listing import list_series
from segmaformer.runtime.scans.dicom.scan import read_series

VOXELS = np.arange(4 * 5 * 3).reshape(4, 5, 3).astype("u2")
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("files")
    files = [save(Series(VOXELS).multi_frame(), folder / f"{n}", s) for n, s in enumerate(SYNTAXES)]
    return [path.read_bytes() for path in files]


@given(
    which=st.integers(0, len(SYNTAXES) - 1),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 1 << 16)),
)
@example(which=1, changes=[], cut=None)
@settings(max_examples=300)
def test_changed_headers_are_read_or_refused(
    which: int,
    changes: list[tuple[int, int]],
    cut: int | None,
    contents: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = bytearray(contents[which])
    for at, value in changes:
        content[128 + at % (len(content) - 128)] = value
    if cut is not None:
        del content[cut % len(content) :]
    path = Path(tmp_path_factory.getbasetemp() / "fuzzed")
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert read_series(path).voxels.size
    list_series(path)


@given(
    content=st.binary(max_size=200).map(lambda tail: b"\xfe\xff\0\xe0\0\0\0\0" + tail),
    frames=st.integers(1, 5),
)
@settings(max_examples=200)
def test_fragments_are_found_or_refused(
    content: bytes, frames: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = Path(tmp_path_factory.getbasetemp() / "fragments")
    path.write_bytes(content)
    with path.open("rb") as stream, contextlib.suppress(InputError):
        assert len(frame_spans(stream, 0, frames)) == frames


def test_frames_of_several_fragments_go_by_the_table(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    frames = [bytes([number]) * (20 + 2 * number) for number in range(3)]
    content = encapsulate(frames, fragments_per_frame=2, has_bot=True) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    (tmp_path / "pixels").write_bytes(content)
    with (tmp_path / "pixels").open("rb") as stream:
        spans = frame_spans(stream, 0, 3)
        found = [b"".join(content[at : at + count] for at, count in frame) for frame in spans]
    assert found == frames
