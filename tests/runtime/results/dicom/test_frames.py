"""Frames of binary segmentations, read back from files by pydicom and beside highdicom's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.samples import sample_manifest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from support.dicom_tools import dicom_errors
from support.scans.dicom_files import OBLIQUE, Series

from segmaformer.runtime.results.dicom.segmentation_object import write_segmentation_object
from segmaformer.runtime.results.dicom.segments import segments_of
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.dicom.scan import read_series
from segmaformer.runtime.spec import Label, Output, Region

RANDOM = np.random.default_rng(11)


def write(folder: Path, labels: np.ndarray, output: Output) -> Any:
    """Write a binary segmentation of a series in a shuffled order, and read it."""
    voxels = np.ones(labels.shape, "u2")
    names = RANDOM.permutation(labels.shape[2])
    series = Series(voxels, orientation=OBLIQUE).write(
        folder / "ct", lambda index: f"{names[index]}"
    )
    manifest = dataclasses.replace(sample_manifest(output=output))
    segmentation = Segmentation(
        labels, read_series(series), manifest, "cpu", {}, package_sha256="a" * 64
    )
    write_segmentation_object(folder / "seg.dcm", segmentation)
    return pydicom.dcmread(folder / "seg.dcm"), segmentation


def named(count: int) -> tuple[Label, ...]:
    return tuple(Label(value, f"label {value}") for value in range(count + 1))


def random_labels(shape: tuple[int, int, int], most: int) -> np.ndarray:
    labels = RANDOM.integers(0, most + 1, shape)
    labels[:, :, 1] = 0
    labels[:, :, 2] = most
    return labels.astype(np.uint8 if most < 256 else np.uint16)


CASES = {
    "frames of whole bytes": (random_labels((8, 6, 5), 3), Output(named(3))),
    "frames that share bytes": (random_labels((7, 5, 11), 4), Output(named(4))),
    "an odd number of bytes": (random_labels((3, 3, 4), 2), Output(named(2))),
    "one segment": (random_labels((7, 5, 4), 1), Output(named(1))),
    "more labels than a byte": (random_labels((6, 5, 4), 300), Output(named(300))),
    "overlapping regions": (
        random_labels((7, 5, 6), 3),
        Output(named(3), (Region("all", (1, 2, 3), 1), Region("core", (3,), 3))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_segment_has_a_frame_in_each_slice_where_it_lies(name: str, tmp_path: Path) -> None:
    labels, output = CASES[name]
    found, segmentation = write(tmp_path, labels, output)
    segments = {each.number: each for each in segments_of(segmentation.manifest)}
    slices = {each.sop_instance_uid: z for z, each in enumerate(segmentation.volume.header.slices)}
    frames = found.pixel_array.reshape(-1, found.Rows, found.Columns)
    seen = set()
    for frame, item in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        (content,), (position,) = item.FrameContentSequence, item.PlanePositionSequence
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        number, place = content.DimensionIndexValues
        shared = found.SharedFunctionalGroupsSequence[0] if len(segments) == 1 else item
        assert shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        z = slices[source.ReferencedSOPInstanceUID]
        assert [*map(float, position.ImagePositionPatient)] == pytest.approx(
            segmentation.volume.header.slices[z].position_mm
        )
        np.testing.assert_array_equal(frame, np.isin(labels[:, :, z], segments[number].values).T)
        assert frame.any()
        seen.add((number, place, z))
    assert len(seen) == len(frames) == found.NumberOfFrames
    assert len({place for _, place, _ in seen}) == len({z for *_, z in seen})
    expected = sum(
        bool(np.isin(labels[:, :, z], each.values).any())
        for each in segments.values()
        for z in range(labels.shape[2])
    )
    assert len(seen) == expected
    assert found.SegmentsOverlap == ("YES" if output.regions else "NO")
    assert dicom_errors(tmp_path / "seg.dcm") == []


def test_another_reader_finds_every_segment(tmp_path: Path) -> None:
    labels, output = CASES["frames that share bytes"]
    _, segmentation = write(tmp_path, labels, output)
    found = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [each.sop_instance_uid for each in segmentation.volume.header.slices]
    pixels = found.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels.T, labels)


def test_a_label_that_the_package_lacks_is_not_left_out(tmp_path: Path) -> None:
    labels, _ = CASES["frames that share bytes"]
    with pytest.raises(ValueError, match="the label map holds 4, and the package has no such"):
        write(tmp_path, labels, Output(named(3)))


def test_regions_that_do_not_meet_do_not_overlap(tmp_path: Path) -> None:
    labels = np.zeros((7, 5, 3), np.uint8)
    labels[2, 3, 1] = 1
    regions = (Region("all", (1, 2, 3), 1), Region("core", (3,), 3))
    found, _ = write(tmp_path, labels, Output(named(3), regions))
    assert (found.SegmentsOverlap, found.NumberOfFrames) == ("NO", 1)
