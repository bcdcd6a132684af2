from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)
from PIL import Image

from segmaformer.runtime.package.manifest import FileRecord, Manifest, Network, Variant
from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.results.preview import draw_preview, write_preview
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

# Each arm of the phantom has the number of its place here.
DIRECTIONS = "RLAPSI"
NAMES = dict(enumerate(DIRECTIONS, start=1))
SPACING_MM = np.array([1.0, 2.0, 2.5])
EXTENT_MM = np.array([60.0, 80.0, 50.0])
CODES = [
    "".join(letters)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for letters in itertools.product(*axes)
]


def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make image, labels and affine in RAS order: a block towards each direction of the patient."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (-30, -50, 12)
    shape = (EXTENT_MM / SPACING_MM).astype(int)
    labels = np.zeros(shape, np.uint8)
    for value, (axis, sign) in enumerate(itertools.product(range(3), (1, -1)), start=1):
        centre = shape // 2 + sign * (shape // 3) * np.eye(3, dtype=int)[axis]
        labels[tuple(slice(c - 2, c + 3) for c in centre)] = value
    image = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    return image, labels, affine


def stored_as(
    codes: str, image: np.ndarray, labels: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Store the same patient with the axes of the arrays in another order."""
    move = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = affine @ inv_ornt_aff(move, image.shape)
    return apply_orientation(image, move), apply_orientation(labels, move), turned


def panels(picture: Image.Image, extent_mm: np.ndarray, scale: float) -> list[np.ndarray]:
    """Return the pixels of the axial, coronal and sagittal panel."""
    x, y, z = (round(extent * scale) for extent in extent_mm)
    pixels, left, found = np.asarray(picture), 20, []
    for width, height in ((x, y), (x, z), (y, z)):
        found.append(pixels[100 : 100 + height, left : left + width])
        left += width + 20
    return found


def outline_box(panel: np.ndarray, value: int) -> tuple[slice, slice]:
    """Return the rows and columns that the outline of a label spans."""
    rows, columns = (panel == label_colours(value)[-1]).all(-1).nonzero()
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def outline_centre(panel: np.ndarray, value: int) -> tuple[float, float]:
    """Return row and column, from -1 to 1, of the centre of a label's outline."""
    box = outline_box(panel, value)
    row, column = (
        (side.start + side.stop) / extent - 1
        for side, extent in zip(box, panel.shape, strict=False)
    )
    return row, column


def one_block(shape: tuple[int, int, int], spacing: tuple[float, ...]) -> Image.Image:
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(extent // 2, extent // 2 + 1) for extent in shape)] = 1
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return draw_preview(image, labels, np.diag([*spacing, 1]), {1: "block"})


@pytest.mark.parametrize("codes", CODES)
def test_the_picture_does_not_depend_on_the_storage_order(codes: str) -> None:
    expected = draw_preview(*phantom(), NAMES, title="scan")
    found = draw_preview(*stored_as(codes, *phantom()), NAMES, title="scan")
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("plane", "left", "right", "up", "down"),
    [(0, "R", "L", "A", "P"), (1, "R", "L", "S", "I"), (2, "A", "P", "S", "I")],
)
def test_radiological_convention(plane: int, left: str, right: str, up: str, down: str) -> None:
    picture = draw_preview(*stored_as("SRA", *phantom()), NAMES)
    panel = panels(picture, EXTENT_MM, 7.2)[plane]
    for direction, (row, column) in {
        left: (0, -0.63), right: (0, 0.63), up: (-0.63, 0), down: (0.63, 0)
    }.items():  # fmt: skip
        found = outline_centre(panel, DIRECTIONS.index(direction) + 1)
        assert found == pytest.approx((row, column), abs=0.1)


def test_voxels_are_stretched_to_their_size() -> None:
    picture = one_block((41, 41, 11), (1, 2, 5))
    for panel, sides in zip(
        panels(picture, np.array([41, 82, 55]), 360 / 55), [(1, 2), (1, 5), (2, 5)], strict=True
    ):
        rows, columns = outline_box(panel, 1)
        width, height = columns.stop - columns.start, rows.stop - rows.start
        assert (width, height) == pytest.approx([side * 360 / 55 for side in sides], abs=1.5)


@pytest.mark.parametrize(
    ("shape", "spacing", "longest", "shortest"),
    [
        ((35, 50, 36), (1, 1, 1), 520, 374),
        ((35, 60, 30), (1, 1, 1), 640, 320),
        ((240, 240, 155), (1, 1, 1), 557, 360),
        ((256, 256, 300), (1.6, 1.6, 2.5), 640, 350),
        ((64, 64, 1), (1, 1, 1), 640, 10),
    ],
)
def test_panels_suit_a_screen(
    shape: tuple[int, int, int], spacing: tuple[float, ...], longest: int, shortest: int
) -> None:
    x, y, z = np.array(shape) * spacing * longest / (np.array(shape) * spacing).max()
    picture = one_block(shape, spacing)
    assert min(y, z) == pytest.approx(shortest, abs=1)
    assert picture.width == pytest.approx(20 + x + 20 + x + 20 + y + 20 + 300 + 20, abs=2)
    assert picture.height == pytest.approx(76 + 24 + max(y, z) + 52, abs=2)


def test_planes_avoid_the_gap_between_two_parts() -> None:
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[5:15, 5:15, 5:15] = 1
    labels[44:54, 44:54, 44:54] = 1
    picture = draw_preview(np.ones_like(labels, np.float32), labels, np.eye(4), {1: "lobes"})
    for panel in panels(picture, np.array([60, 60, 60]), 520 / 60):
        assert (panel == label_colours(1)[0]).all(-1).any()


def test_planes_prefer_slices_that_show_much() -> None:
    labels = np.zeros((40, 40, 60), np.uint8)
    labels[10:30, 10:30, 0:10] = 1
    labels[18:22, 18:22, :] = 1  # the centroid lies on this stalk
    labels[10:30, 10:30, 55:60] = 1
    picture = draw_preview(np.ones_like(labels, np.float32), labels, np.eye(4), {1: "dumb-bell"})
    rows, _ = outline_box(panels(picture, np.array([40, 40, 60]), 9.0)[0], 1)
    assert rows.stop - rows.start == pytest.approx(20 * 9, abs=2)


def test_without_labels_the_centre_of_the_scan_is_shown() -> None:
    image = np.full((31, 31, 31), 50, np.float32)
    image[15] = image[:, 15] = image[:, :, 15] = 100
    picture = draw_preview(image, np.zeros(image.shape, np.uint8), np.eye(4), {1: "absent"})
    for panel in panels(picture, np.array([31, 31, 31]), 520 / 31):
        assert np.median(panel) == 255


def test_outlines_are_crisp_and_fillings_let_the_scan_through() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:30, 10:30, 10:30] = 1
    image = np.random.default_rng(2).normal(size=labels.shape).astype(np.float32)
    axial, *_ = panels(
        draw_preview(image, labels, np.eye(4), {1: "cube"}), np.array([40, 40, 40]), 13
    )
    rows, columns = outline_box(axial, 1)
    inside = axial[rows, columns]
    assert (inside[:2] == label_colours(1)[0]).all()
    assert inside[20:-20, 20:-20].std() > 10
    assert np.ptp(axial[: rows.start, :200], axis=-1).max() == 0


def test_one_extreme_voxel_does_not_blacken_the_picture() -> None:
    image = np.random.default_rng(3).normal(100, 10, (40, 40, 40)).astype(np.float32)
    image[0, 0, 0] = 1_700_000
    axial, *_ = panels(
        draw_preview(image, np.zeros(image.shape, np.uint8), np.eye(4), {}), np.array([40] * 3), 13
    )
    assert 90 < np.median(axial) < 165


@pytest.mark.parametrize(
    ("value", "shade"), [(-50, 0), (-10, 0), (45, 128), (100, 255), (9e9, 255)]
)
def test_a_given_window_maps_to_black_and_white(value: float, shade: int) -> None:
    image = np.full((20, 20, 20), value, np.float32)
    picture = draw_preview(image, np.zeros(image.shape, np.uint8), np.eye(4), {}, window=(-10, 100))
    axial, *_ = panels(picture, np.array([20] * 3), 26)
    assert np.median(axial) == shade


def test_empty_background_is_no_part_of_the_window() -> None:
    image = np.zeros((40, 40, 40), np.float32)
    image[10:30, 10:30, 10:30] = np.random.default_rng(4).uniform(1000, 1001, (20, 20, 20))
    labels = np.zeros(image.shape, np.uint8)
    axial, *_ = panels(draw_preview(image, labels, np.eye(4), {}), np.array([40] * 3), 13)
    assert np.std(axial[200:320, 200:320]) > 30


@pytest.mark.parametrize("fill", [0, 7])
def test_a_uniform_scan_can_be_drawn(fill: float) -> None:
    image = np.full((5, 6, 7), fill, np.float32)
    assert draw_preview(image, np.zeros(image.shape, np.uint8), np.eye(4), {}).mode == "RGB"


def test_many_labels_some_unnamed() -> None:
    labels = np.arange(300, dtype=np.uint16).reshape(3, 10, 10)
    picture = draw_preview(labels.astype(np.float32), labels, np.eye(4), {1: "one"})
    assert picture.height == 76 + 25 * 24 + 52


def test_refuses_labels_of_another_grid() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(2, 3, 5\)"):
        draw_preview(np.zeros((2, 3, 4)), np.zeros((2, 3, 5), np.uint8), np.eye(4), {})


def segmentation(normalization: Normalization) -> Segmentation:
    image, labels, affine = phantom()
    manifest = Manifest(
        name="jack",
        network=Network("segmaformer", {}, 1, "model.ckpt", "0" * 64),
        preprocessing=Preprocessing(("CT",), (normalization,)),
        tiling=Tiling((8, 8, 8)),
        output=Output((Label(0, "background"), *(Label(*item) for item in NAMES.items()))),
        variants={"fp32": Variant("fp32.onnx", {}, {})},
        verification_tiles="phantom",
        software={},
        created="2025-01-01T00:00:00Z",
        files={"fp32.onnx": FileRecord("0" * 64, 1)},
    )
    volume = Volume(image[None], affine, source=(Path("somewhere/scan.nii.gz"),))
    return Segmentation(labels, volume, manifest, "onnxruntime CPU, fp32", {})


@pytest.mark.parametrize(
    ("normalization", "window"),
    [
        (Normalization("zscore"), None),
        (Normalization("ct", mean=80, std=30, lower=-41, upper=176), (-41, 176)),
    ],
)
def test_written_preview_names_its_origin_and_uses_the_networks_window(
    tmp_path: Path, normalization: Normalization, window: tuple[float, float] | None
) -> None:
    write_preview(tmp_path / "preview.png", segmentation(normalization))
    expected = draw_preview(
        *phantom(),
        NAMES,
        window=window,
        title="Scan",
        subtitle="jack  ·  onnxruntime CPU, fp32",
    )
    with Image.open(tmp_path / "preview.png") as written:
        assert written.format == "PNG"
        assert written.tobytes() == expected.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["preview.png"]


@pytest.mark.parametrize(("names", "title"), [(False, "Scan"), (True, "scan.nii.gz")])
def test_the_scans_name_is_shown_on_request_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: bool, title: str
) -> None:
    titles: list[str] = []

    def draw(*_: object, **options: str) -> Image.Image:
        titles.append(options["title"])
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("segmaformer.runtime.results.preview.draw_preview", draw)
    segmentation(Normalization("none")).save_preview(tmp_path / "preview.png", names=names)
    assert titles == [title]


def test_nothing_is_left_where_the_preview_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        write_preview(tmp_path / "missing" / "preview.png", segmentation(Normalization("none")))
    assert list(tmp_path.iterdir()) == []


def test_a_real_ct_with_many_labels(data_dir: Path) -> None:
    scan = nib.load(data_dir / "totalsegmentator" / "example_ct_sm.nii.gz")
    labels = nib.load(data_dir / "totalsegmentator" / "example_seg.nii.gz")
    picture = draw_preview(
        np.asarray(scan.dataobj, np.float32),
        np.asarray(labels.dataobj).astype(np.uint8),
        scan.affine,
        {value: f"structure {value}" for value in range(1, 118)},
    )
    axial, *_ = panels(picture, np.array(scan.shape) * 3, 640 / 366)
    liver, spleen = outline_centre(axial, 5), outline_centre(axial, 1)
    assert liver[1] < 0 < spleen[1]
