"""One volume in every coding, and as files that lie or are in disorder: always the same array."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from support.scans import codestreams
from support.scans.dicom_files import OBLIQUE, Series, save

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.listing import list_series
from segmaformer.runtime.scans.dicom.scan import read_series

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
RANDOM = np.random.default_rng(5)
VOXELS = RANDOM.integers(0, 4000, (40, 36, 5)).astype("u2")


def expected(voxels: np.ndarray) -> bytes:
    return (voxels.astype("f8") - 1024).astype("f4").tobytes("F")


def read(folder: Path, *where: str) -> tuple[bytes, np.ndarray]:
    volume = read_series(folder, where=where)
    return volume.voxels[0].tobytes("F"), volume.affine


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2"])
def test_every_coding_gives_the_same_array(syntax: UID, dtype: str, tmp_path: Path) -> None:
    voxels = VOXELS.astype(dtype) - np.dtype(dtype).type(100 if dtype == "i2" else 0)
    series = Series(voxels, orientation=OBLIQUE, syntax=syntax)
    content, affine = read(series.write(tmp_path / "series"))
    assert content == expected(voxels)
    np.testing.assert_allclose(affine, series.affine, atol=1e-6)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_frames_of_one_file_are_those_of_many(syntax: UID, tmp_path: Path) -> None:
    series = Series(VOXELS, orientation=OBLIQUE)
    path = save(series.multi_frame(), tmp_path / "frames", syntax)
    content, affine = read(path)
    intercepts = np.arange(VOXELS.shape[2]) - 7.0
    assert content == (VOXELS * 2.0 + intercepts).astype("f4").tobytes("F")
    np.testing.assert_allclose(affine, series.affine, atol=1e-6)


@pytest.mark.parametrize(
    "shared",
    [
        (),
        ("PixelMeasuresSequence", "PlaneOrientationSequence"),
        ("PixelMeasuresSequence", "PlaneOrientationSequence", "FrameContentSequence"),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_functional_groups_may_be_shared(
    shared: tuple[str, ...], syntax: UID, tmp_path: Path
) -> None:
    series = Series(VOXELS, orientation=OBLIQUE)
    path = save(series.multi_frame(shared=shared), tmp_path / "frames.dcm", syntax)
    _, affine = read(path)
    np.testing.assert_allclose(affine, series.affine, atol=1e-6)


def _lying_thickness(dataset: Dataset, index: int) -> None:
    dataset.SliceThickness, dataset.SpacingBetweenSlices = 17, 3 + index


def _reversed_numbers(dataset: Dataset, index: int) -> None:
    dataset.InstanceNumber = 100 - index


def _inverted(dataset: Dataset, _index: int) -> None:
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.WindowCenter, dataset.WindowWidth = 40, 80


def _no_frame_of_reference(dataset: Dataset, _index: int) -> None:
    del dataset.FrameOfReferenceUID


def _empty_uids(dataset: Dataset, _index: int) -> None:
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = dataset.FrameOfReferenceUID = ""


def _jitter(dataset: Dataset, index: int) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, float(z) + 4e-6 * (-1) ** index]


@pytest.mark.parametrize(
    "change",
    [
        _lying_thickness,
        _reversed_numbers,
        _inverted,
        _no_frame_of_reference,
        _empty_uids,
        _jitter,
    ],
)
def test_what_is_not_geometry_changes_nothing(
    change: Callable[[Dataset, int], None], tmp_path: Path
) -> None:
    series = Series(VOXELS, change=change)
    content, affine = read(series.write(tmp_path / "series"))
    assert content == expected(VOXELS)
    np.testing.assert_allclose(affine, series.affine, atol=1e-5)


CHARACTER_SETS = {
    "ISO_IR 192": "Schädel 頭",
    "ISO_IR 100": "Schädel",
    "\\ISO 2022 IR 87": "頭部",
    "ISO_IR 126": "κεφάλι",
    "GB18030": "头部",
}


@pytest.mark.parametrize(("characters", "text"), CHARACTER_SETS.items())
def test_conditions_are_on_texts_of_any_character_set(
    characters: str, text: str, tmp_path: Path
) -> None:
    def describe(dataset: Dataset, _index: int) -> None:
        dataset.SpecificCharacterSet, dataset.SeriesDescription = characters.split("\\"), text

    folder = Series(VOXELS, change=describe).write(tmp_path / "series")
    assert read(folder, f"SeriesDescription={text}")[0] == expected(VOXELS)


def test_descriptions_control_no_terminal(tmp_path: Path) -> None:
    def describe(dataset: Dataset, _index: int) -> None:
        dataset.add_new(0x0008103E, "UN", b"\x1b[31mred\x07")

    folder = Series(VOXELS, change=describe).write(tmp_path / "series")
    (series,) = list_series(folder)
    assert series["description"] == "\ufffd[31mred\ufffd"


def test_items_on_other_images_do_not_place_a_frame(tmp_path: Path) -> None:
    def derive(dataset: Dataset, _index: int) -> None:
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            source, derivation = Dataset(), Dataset()
            source.ImagePositionPatient, source.PixelSpacing = [7, 7, 7], [7, 7]
            derivation.SourceImageSequence = [source]
            groups.DerivationImageSequence = [derivation]

    series = Series(VOXELS, change=derive)
    _, affine = read(save(series.multi_frame(), tmp_path / "frames"))
    np.testing.assert_allclose(affine, series.affine, atol=1e-6)


@given(seed=st.integers(0, 1000))
@settings(max_examples=8)
def test_names_and_folders_change_nothing(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shuffled = random.Random(seed)
    names = [f"{shuffled.choice(['', 'a/', 'b/c/'])}{index}" for index in range(5)]
    shuffled.shuffle(names)
    folder = tmp_path_factory.mktemp("study")
    for below in ("a", "b/c"):
        (folder / below).mkdir(parents=True)
    Series(VOXELS).write(folder, names.__getitem__)
    assert read(folder)[0] == expected(VOXELS)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_preamble_may_be_missing(syntax: UID, tmp_path: Path) -> None:
    folder = Series(VOXELS, syntax=syntax).write(tmp_path / "series")
    for path in folder.iterdir():
        content = path.read_bytes()
        data_set_at = 132 + 12 + int.from_bytes(content[140:144], "little")
        path.write_bytes(content[data_set_at:])
    assert read(folder)[0] == expected(VOXELS)


def test_bits_above_the_high_bit_are_dropped(tmp_path: Path) -> None:
    def overlay(dataset: Dataset, _index: int) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        numbers = np.frombuffer(dataset.PixelData, "<u2") | 0xA000
        dataset.PixelData = numbers.astype("<u2").tobytes()

    assert read(Series(VOXELS, change=overlay).write(tmp_path / "series"))[0] == expected(VOXELS)


def test_the_sign_is_that_of_the_high_bit(tmp_path: Path) -> None:
    voxels = VOXELS.astype("i2") - 2000

    def twelve_bits(dataset: Dataset, _index: int) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        numbers = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
        dataset.PixelData = numbers.astype("<u2").tobytes()

    series = Series(voxels, change=twelve_bits)
    assert read(series.write(tmp_path / "series"))[0] == expected(voxels)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda each: each.name)
@pytest.mark.parametrize("bits_stored", [12, 16])
def test_the_sign_of_a_codestream_is_that_of_its_own_bits(
    syntax: UID, bits_stored: int, tmp_path: Path
) -> None:
    voxels = VOXELS.astype("i2") - 2000

    def twelve_bits(dataset: Dataset, _index: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
        numbers = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
        dataset.PixelData = numbers.astype("<u2").tobytes()
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
        dataset.PixelRepresentation = 1

    tmp_path.joinpath("series").mkdir()
    series = Series(voxels, change=twelve_bits)
    for index in range(voxels.shape[2]):
        path = tmp_path / "series" / f"{index}"
        series.slice(index).save_as(path, enforce_file_format=True)
    assert read(tmp_path / "series")[0] == expected(voxels)


def test_slopes_and_intercepts_are_those_of_each_slice(tmp_path: Path) -> None:
    def scale(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{0.1 * (index + 1):.10g}", index

    content, _ = read(Series(VOXELS, change=scale).write(tmp_path / "series"))
    slopes = np.array([float(f"{0.1 * (index + 1):.10g}") for index in range(5)])
    assert content == (VOXELS * slopes + np.arange(5)).astype("f4").tobytes("F")


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    tilt_mm=st.floats(-1.0, 1.0),
    spacing_mm=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)),
)
@settings(max_examples=25)
def test_any_orientation_and_tilt_has_its_affine(
    angles: tuple[float, float, float],
    tilt_mm: float,
    spacing_mm: tuple[float, float],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    a, b, c = angles
    turns = [
        np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]),
        np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]),
        np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]]),
    ]
    row, column, normal = np.linalg.multi_dot(turns).T
    series = Series(
        VOXELS,
        orientation=tuple(float(f"{number:.9f}") for number in (*row, *column)),
        spacing_mm=(float(f"{spacing_mm[0]:.6f}"), float(f"{spacing_mm[1]:.6f}")),
        step_mm=tuple(float(f"{number:.6f}") for number in 2.5 * normal + tilt_mm * column),
    )
    _, affine = read(series.write(tmp_path_factory.mktemp("series")))
    np.testing.assert_allclose(affine, series.affine, atol=1e-6)


def test_lossy_jpeg_of_8_bits_is_what_pillow_decodes(tmp_path: Path) -> None:
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    voxels = (np.indices((40, 36, 3)).sum(axis=0) * 2).astype("u1")
    series, decoded = Series(voxels), []
    for index in range(3):
        content = io.BytesIO()
        Image.fromarray(voxels[:, :, index].T).save(content, "jpeg", quality=95)
        decoded.append(np.asarray(Image.open(content)).T)
        dataset = series.slice(index)
        save(dataset, tmp_path / f"{index}")
        dataset.PixelData = encapsulate([content.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(tmp_path / f"{index}", enforce_file_format=True)
    assert read(tmp_path)[0] == expected(np.stack(decoded, axis=2))


def with_codestream(folder: Path, syntax: str, codestream: bytes) -> Path:
    """Write two images of 12 bits whose pixels are a codestream."""
    from pydicom.encaps import encapsulate

    series = Series(np.stack([codestreams.NUMBERS] * 2, axis=2))
    folder.mkdir()
    for index in range(2):
        dataset = series.slice(index)
        dataset.BitsStored, dataset.HighBit = 12, 11
        save(dataset, folder / f"{index}")
        dataset.PixelData = encapsulate([codestream])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{syntax}")
        dataset.save_as(folder / f"{index}", enforce_file_format=True)
    return folder


@pytest.mark.parametrize(
    ("syntax", "codestream", "most_apart"),
    [
        ("201", codestreams.HTJ2K_LOSSLESS, 0),
        ("202", codestreams.HTJ2K_LOSSLESS, 0),
        ("203", codestreams.HTJ2K_LOSSY, 1),
        ("57", codestreams.JPEG_LOSSLESS, 0),
    ],
)
def test_codings_of_other_encoders(
    syntax: str, codestream: bytes, most_apart: int, tmp_path: Path
) -> None:
    volume = read_series(with_codestream(tmp_path / "series", syntax, codestream))
    apart = volume.voxels[0] + 1024 - codestreams.NUMBERS[:, :, None]
    assert np.abs(apart).max() <= most_apart


def test_lossy_jpeg_of_12_bits_is_refused_by_name(tmp_path: Path) -> None:
    folder = with_codestream(tmp_path / "series", "51", codestreams.JPEG_12_BIT)
    with pytest.raises(InputError, match="lossy JPEG of 12 bits, and only 8 can be decoded"):
        read_series(folder)


def test_a_time_of_a_multi_frame_file_can_be_chosen(tmp_path: Path) -> None:
    voxels = np.concatenate([VOXELS + np.uint16(time) for time in range(4)], axis=2)
    series = Series(voxels)
    count = VOXELS.shape[2]

    def times(dataset: Dataset, _index: int) -> None:
        for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            time, place = divmod(index, count)
            position = np.array(series.first_mm) + place * series.step
            groups.PlanePositionSequence[0].ImagePositionPatient = [*position]
            groups.PixelValueTransformationSequence[0].RescaleIntercept = -1024
            groups.PixelValueTransformationSequence[0].RescaleSlope = 1
            groups.FrameContentSequence[0].TemporalPositionIndex = time + 1

    series.change = times
    path = save(series.multi_frame(), tmp_path / "times")
    with pytest.raises(InputError, match="--where TemporalPositionIndex=1, or --where"):
        read(path)
    for time in range(4):
        content, affine = read(path, f"TemporalPositionIndex={time + 1}")
        assert content == expected(VOXELS + np.uint16(time))
        np.testing.assert_allclose(affine, series.affine, atol=1e-6)
