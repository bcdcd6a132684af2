"""The report's script, in a real browser with real mouse and keyboard events."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scans.report_phantom import HOSTILE, hostile, phantom
from tools.chromium import Page, find_chromium

from segmaformer.runtime.results.display_planes import PLANES, Plane
from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.results.report import write_report
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.volume import orient_to
from segmaformer.runtime.spec import Label, Normalization, Output

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
AXIAL, CORONAL, SAGITTAL = PLANES
FILL_OPACITY = 0.4


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with Page(CHROMIUM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def show(page: Page, path: Path) -> None:
    """Open a report and wait until it has drawn its slices or complained."""
    page.open(path)
    page.run(
        """new Promise(done => {
            const wait = () =>
                document.getElementById('position').textContent.trim() ||
                !document.getElementById('message').hidden ? done() : setTimeout(wait, 10);
            wait();
        })"""
    )
    page.settle()


@pytest.fixture
def report(page: Page, tmp_path: Path) -> Iterator[Page]:
    """Open the phantom's report; nothing in it may complain or request anything else."""
    path = tmp_path / "report.html"
    write_report(path, phantom())
    show(page, path)
    yield page
    assert page.complaints == []
    assert page.requests == [path.as_uri()]


def canvas(page: Page, plane: Plane, kind: str) -> np.ndarray:
    """Return the pixels (rows, columns, RGBA) of a plane's image or overlay."""
    width, height, data = page.run(
        f"""(() => {{
            const canvas = document.querySelectorAll('.plane .{kind}')[{PLANES.index(plane)}];
            const {{ width, height }} = canvas;
            const copy = new OffscreenCanvas(width, height);
            const context = copy.getContext('2d', {{ willReadFrequently: true }});
            context.drawImage(canvas, 0, 0);
            return [width, height, [...context.getImageData(0, 0, width, height).data]];
        }})()"""
    )
    return np.array(data, np.uint8).reshape(height, width, 4)


def at_voxel_centres(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    row, column = (
        ((np.arange(count) + 0.5) * extent / count).astype(int)
        for count, extent in ((rows, pixels.shape[0]), (columns, pixels.shape[1]))
    )
    return np.asarray(pixels[row[:, None], column])


def scene_of(page: Page) -> dict[str, Any]:
    """Return the data that the script was given, and its present state."""
    scene: dict[str, Any] = page.run("JSON.parse(document.getElementById('scene').textContent)")
    return {**scene, "cursor": page.run("state.cursor")}


def slice_of(segmentation: Segmentation, plane: Plane, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return intensities and labels of a plane, rows down and columns across."""
    turn = orient_to(segmentation.volume.affine, "LPI")
    image, labels = turn.apply(segmentation.volume.voxels[0]), turn.apply(segmentation.labels)
    return image.take(index, plane.through).T, labels.take(index, plane.through).T


def expect_slices(page: Page, segmentation: Segmentation, shown: set[int] | None = None) -> None:
    """Compare every voxel of the three slices on the screen with the arrays."""
    scene = scene_of(page)
    lower, upper = scene["window"]
    colours = np.concatenate((np.zeros((1, 3)), label_colours(4)))
    for plane in PLANES:
        image, labels = slice_of(segmentation, plane, scene["cursor"][plane.through])
        labels = labels if shown is None else np.where(np.isin(labels, [*shown]), labels, 0)
        grey = canvas(page, plane, "image")
        expected = 255 * ((image - lower) / (upper - lower)).clip(0, 1)
        assert np.abs(grey[..., 0] - expected).max() <= 1.5, plane.name
        assert (grey[..., :3] == grey[..., :1]).all()
        overlay = at_voxel_centres(canvas(page, plane, "overlay"), *labels.shape)
        assert np.array_equal(overlay[..., 3] > 0, labels > 0), plane.name
        inside = labels > 0
        assert (overlay[inside][:, 3] == round(255 * FILL_OPACITY)).all()
        # The browser keeps colours multiplied by their opacity, in whole numbers.
        assert np.abs(overlay[inside][:, :3] - colours[labels[inside]]).max(initial=0) <= 2


def box_of(page: Page, selector: str, index: int = 0) -> tuple[float, float, float, float]:
    left, top, width, height = page.run(
        f"""(() => {{
            const box = document.querySelectorAll({json.dumps(selector)})[{index}];
            const rect = box.getBoundingClientRect();
            return [rect.left, rect.top, rect.width, rect.height];
        }})()"""
    )
    return left, top, width, height


def point_of(page: Page, plane: Plane, column: int, row: int) -> tuple[float, float]:
    """Return the place of a voxel's centre on the screen."""
    left, top, width, height = box_of(page, ".frame", PLANES.index(plane))
    shape = scene_of(page)["shape"]
    x = left + (column + 0.5) * width / shape[plane.across]
    return x, top + (row + 0.5) * height / shape[plane.down]


def click_on(page: Page, selector: str, index: int = 0) -> None:
    left, top, width, height = box_of(page, selector, index)
    page.click(left + width / 2, top + height / 2)


def drag_slider(page: Page, selector: str, share: float, index: int = 0) -> None:
    """Press the mouse at a share of a slider's length; its thumb follows."""
    left, top, width, height = box_of(page, selector, index)
    page.click(left + 8 + share * (width - 16), top + height / 2)


def test_every_voxel_is_drawn(report: Page) -> None:
    expect_slices(report, phantom())


@pytest.mark.parametrize("codes", ["LPI", "PIR", "SLA", "ARS"])
def test_storage_does_not_matter(page: Page, tmp_path: Path, codes: str) -> None:
    write_report(tmp_path / "report.html", phantom(codes))
    show(page, tmp_path / "report.html")
    expect_slices(page, phantom("RAS"))


def test_planes_have_their_aspect_in_millimetres(report: Page) -> None:
    extent_mm = (12, 20, 24)
    for index, plane in enumerate(PLANES):
        _, _, width, height = box_of(report, ".frame", index)
        expected = extent_mm[plane.across] / extent_mm[plane.down]
        assert width / height == pytest.approx(expected, rel=0.02)


def test_orientation_letters_stand_at_their_edges(report: Page) -> None:
    for index, plane in enumerate(PLANES):
        left, top, width, height = box_of(report, ".frame", index)
        for order, side in enumerate(("left", "right", "top", "bottom")):
            x, y, w, h = box_of(report, ".letter", 4 * index + order)
            share = ((x + w / 2 - left) / width, (y + h / 2 - top) / height)
            edge = {"left": share[0], "right": 1 - share[0], "top": share[1]}
            assert edge.get(side, 1 - share[1]) < 0.15
            text = report.run(
                f"document.querySelectorAll('.letter')[{4 * index + order}].textContent"
            )
            assert text == getattr(plane, side)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
def test_the_wheel_scrolls_the_plane_under_it(report: Page, plane: Plane) -> None:
    before = scene_of(report)["cursor"]
    x, y = point_of(report, plane, 2, 2)
    report.wheel(x, y, 120)
    report.wheel(x, y, 120)
    report.wheel(x, y, -120)
    after = scene_of(report)["cursor"]
    expected = list(before)
    expected[plane.through] += 1
    assert after == expected
    expect_slices(report, phantom())


def test_small_movements_of_a_touch_pad_add_up(report: Page) -> None:
    before = scene_of(report)["cursor"][2]
    x, y = point_of(report, AXIAL, 2, 2)
    for _ in range(10):
        report.wheel(x, y, 8)
    assert scene_of(report)["cursor"][2] == before + 2


def test_scrolling_ends_at_the_last_slice(report: Page) -> None:
    x, y = point_of(report, AXIAL, 2, 2)
    for _ in range(12):
        report.wheel(x, y, 120)
    assert scene_of(report)["cursor"][2] == 7
    expect_slices(report, phantom())


def test_a_click_moves_the_other_planes(report: Page) -> None:
    before = scene_of(report)["cursor"]
    report.click(*point_of(report, AXIAL, 3, 6))
    assert scene_of(report)["cursor"] == [3, 6, before[2]]
    report.click(*point_of(report, CORONAL, 8, 1))
    assert scene_of(report)["cursor"] == [8, 6, 1]
    report.click(*point_of(report, SAGITTAL, 9, 5))
    assert scene_of(report)["cursor"] == [8, 9, 5]
    expect_slices(report, phantom())


def test_the_crosshair_marks_the_voxel_in_every_plane(report: Page) -> None:
    report.click(*point_of(report, AXIAL, 3, 6))
    cursor = scene_of(report)["cursor"]
    for index, plane in enumerate(PLANES):
        x, y = point_of(report, plane, cursor[plane.across], cursor[plane.down])
        assert box_of(report, ".cross.upright", index)[0] == pytest.approx(x, abs=1)
        assert box_of(report, ".cross.level", index)[1] == pytest.approx(y, abs=1)


def test_arrow_keys_scroll_the_plane_clicked_last(report: Page) -> None:
    report.click(*point_of(report, CORONAL, 5, 4))
    before = scene_of(report)["cursor"]
    for key in ("ArrowDown", "ArrowRight", "ArrowUp"):
        report.press(key)
    after = scene_of(report)["cursor"]
    assert after == [before[0], before[1] + 1, before[2]]
    report.press("PageUp")
    assert scene_of(report)["cursor"][1] == 0


def test_each_slider_moves_its_plane(report: Page) -> None:
    for index, plane in enumerate(PLANES):
        drag_slider(report, ".plane input", 1.0, index)
        cursor = scene_of(report)["cursor"]
        assert cursor[plane.through] == scene_of(report)["shape"][plane.through] - 1
    expect_slices(report, phantom())


def test_the_overlay_fades(report: Page) -> None:
    drag_slider(report, "#opacity", 0.0)
    assert canvas(report, AXIAL, "overlay")[..., 3].max() == 0
    drag_slider(report, "#opacity", 1.0)
    overlay = canvas(report, AXIAL, "overlay")
    assert set(np.unique(overlay[..., 3])) == {0, 255}


def test_outlines_are_stronger_than_the_fill_and_can_be_left_out(report: Page) -> None:
    opacities = {0, round(255 * FILL_OPACITY)}
    assert set(np.unique(canvas(report, AXIAL, "overlay")[..., 3])) == opacities | {255}
    click_on(report, "#outlines")
    assert set(np.unique(canvas(report, AXIAL, "overlay")[..., 3])) == opacities


def test_labels_can_be_hidden_one_by_one_and_together(report: Page) -> None:
    click_on(report, "[data-rank]", 1)
    expect_slices(report, phantom(), shown={1, 4})
    click_on(report, "#none")
    expect_slices(report, phantom(), shown=set())
    click_on(report, "[data-rank]", 2)
    expect_slices(report, phantom(), shown={4})
    click_on(report, "#all")
    expect_slices(report, phantom())


@pytest.mark.parametrize(("row", "name"), [(0, "first"), (1, "second"), (2, "fourth")])
def test_a_labels_name_leads_to_its_middle(report: Page, row: int, name: str) -> None:
    click_on(report, "[data-go]", row)
    segmentation = phantom()
    value = next(v for v, known in segmentation.label_names.items() if known == name)
    places = np.argwhere(
        orient_to(segmentation.volume.affine, "LPI").apply(segmentation.labels) == value
    )
    distances_mm = np.linalg.norm((places - places.mean(0)) * (1, 2, 3), axis=1)
    (found,) = np.flatnonzero((places == scene_of(report)["cursor"]).all(1))
    assert distances_mm[found] == pytest.approx(distances_mm.min())
    assert report.run("document.getElementById('position').textContent").endswith(name)


def test_swatches_have_the_labels_colours(report: Page) -> None:
    found = report.run(
        "[...document.querySelectorAll('.labels .swatch')]"
        ".map(swatch => getComputedStyle(swatch).backgroundColor)"
    )
    colours = label_colours(4)[[0, 1, 3]].tolist()
    assert found == [f"rgb({red}, {green}, {blue})" for red, green, blue in colours]


def test_level_and_width_change_the_greys(report: Page) -> None:
    before = canvas(report, AXIAL, "image")[..., 0].astype(int)
    drag_slider(report, "#level", 0.1)
    brighter = canvas(report, AXIAL, "image")[..., 0].astype(int)
    assert brighter.mean() > before.mean() + 20
    drag_slider(report, "#width", 0.0)
    assert set(np.unique(canvas(report, AXIAL, "image")[..., 0])) <= {0, 255}
    click_on(report, "#reset")
    assert np.array_equal(canvas(report, AXIAL, "image")[..., 0], before)


def drag(
    page: Page,
    start: tuple[float, float],
    move: tuple[float, float],
    *,
    button: str = "left",
    modifiers: int = 0,
) -> None:
    """Press a button, move in two steps, and release it."""
    pressed = {"left": 1, "right": 2, "middle": 4}[button]
    x, y = start
    held = {"button": button, "modifiers": modifiers}
    page.mouse("mousePressed", x, y, buttons=pressed, clickCount=1, **held)
    for share in (0.5, 1):
        to = (x + share * move[0], y + share * move[1])
        page.mouse("mouseMoved", *to, buttons=pressed, **held)
    page.mouse("mouseReleased", *to, buttons=0, clickCount=1, **held)
    page.settle()


def choose_tool(page: Page, name: str) -> None:
    click_on(page, f"#tools [value={name}]")


@pytest.mark.parametrize("button", ["right", "left"])
def test_dragging_sets_the_window(report: Page, button: str) -> None:
    if button == "left":
        choose_tool(report, "window")
    before = scene_of(report)["cursor"]
    lower, upper = report.run("state.window")
    drag(report, point_of(report, AXIAL, 5, 5), (75, 0), button=button)
    wide = report.run("state.window")
    assert wide[1] - wide[0] == pytest.approx((upper - lower) * 2**0.5)
    assert sum(wide) == pytest.approx(lower + upper)
    grey = canvas(report, AXIAL, "image")[..., 0].mean()
    drag(report, point_of(report, AXIAL, 5, 5), (0, 30), button=button)
    assert sum(report.run("state.window")) > sum(wide)
    assert canvas(report, AXIAL, "image")[..., 0].mean() < grey
    assert scene_of(report)["cursor"] == before
    click_on(report, "#reset")
    assert report.run("state.window") == [lower, upper]


def test_a_distance_is_measured_in_millimetres(report: Page) -> None:
    choose_tool(report, "measure")
    for index, plane in enumerate(PLANES):
        start, end = point_of(report, plane, 1, 1), point_of(report, plane, 4, 5)
        drag(report, start, (end[0] - start[0], end[1] - start[1]))
        spacing = (1, 2, 3)
        expected = np.hypot(3 * spacing[plane.across], 4 * spacing[plane.down])
        text = report.run(f"document.querySelectorAll('.length')[{index}].textContent")
        assert text.endswith(" mm")
        assert float(text[:-3]) == pytest.approx(expected, abs=0.15)
    x, y = point_of(report, AXIAL, 2, 2)
    report.wheel(x, y, 120)
    assert report.run("document.querySelector('.length').textContent") == ""
    report.wheel(x, y, -120)
    assert report.run("document.querySelector('.length').textContent") != ""


@pytest.mark.parametrize("codes", ["PIR", "SLA"])
def test_a_distance_does_not_depend_on_storage(page: Page, tmp_path: Path, codes: str) -> None:
    segmentation = phantom(codes)
    shear = np.eye(4)
    shear[2, 1] = 0.3  # as a tilted gantry
    volume = replace(segmentation.volume, affine=shear @ segmentation.volume.affine)
    write_report(tmp_path / "report.html", replace(segmentation, volume=volume))
    show(page, tmp_path / "report.html")
    for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (2, -1, 3)):
        lpi = np.array(step) * (-1, -1, -1) * (1, 2, 3)
        expected = np.linalg.norm(shear[:3, :3] @ lpi)
        assert page.run(f"distanceMm({list(step)})") == pytest.approx(expected)


def test_planes_zoom_about_the_pointer_and_pan(report: Page) -> None:
    place = point_of(report, AXIAL, 3, 2)
    before = box_of(report, ".frame")
    report.mouse("mouseWheel", *place, deltaX=0, deltaY=-240, modifiers=2)
    report.settle()
    zoomed = box_of(report, ".frame")
    assert zoomed[2] == pytest.approx(2 * before[2], rel=0.01)
    assert point_of(report, AXIAL, 3, 2) == pytest.approx(place, abs=1)
    for number, options in enumerate(({"button": "middle"}, {"modifiers": 8})):
        drag(report, place, (20, -10), **options)
        panned = box_of(report, ".frame")
        assert panned[0] - zoomed[0] == pytest.approx(20 * (number + 1), abs=1)
        assert zoomed[1] - panned[1] == pytest.approx(10 * (number + 1), abs=1)
    report.click(*point_of(report, AXIAL, 6, 5))
    assert scene_of(report)["cursor"][:2] == [6, 5]
    stage, letters = box_of(report, ".stage"), box_of(report, ".edges")
    assert letters[0] >= stage[0] - 1
    assert letters[0] + letters[2] <= stage[0] + stage[2] + 1
    click_on(report, "#reset")
    assert box_of(report, ".frame") == pytest.approx(before, abs=1)


def test_keys_zoom_the_plane_clicked_last(report: Page) -> None:
    report.click(*point_of(report, CORONAL, 5, 4))
    before = box_of(report, ".frame", 1)[2]
    report.press("+")
    report.press("+")
    assert box_of(report, ".frame", 1)[2] == pytest.approx(2 * before, rel=0.01)
    for _ in range(4):
        report.press("-")
    assert box_of(report, ".frame", 1)[2] == pytest.approx(before, rel=0.01)


def test_pixels_can_be_shown_as_they_are(report: Page) -> None:
    style = "getComputedStyle(document.querySelector('.image')).imageRendering"
    assert report.run(style) == "auto"
    click_on(report, "#smooth")
    assert report.run(style) == "pixelated"


def test_a_ct_has_common_windows(page: Page, tmp_path: Path) -> None:
    segmentation = phantom()
    ct = Normalization("ct", mean=100, std=20, lower=80, upper=130)
    spec = replace(segmentation.manifest.preprocessing, normalization=(ct,))
    manifest = replace(segmentation.manifest, preprocessing=spec)
    write_report(tmp_path / "report.html", replace(segmentation, manifest=manifest))
    show(page, tmp_path / "report.html")
    assert not page.run("document.getElementById('presets').hidden")
    for name, window in (("brain", [0, 80]), ("initial", [80, 130])):
        page.run(
            f"element('preset').value = '{name}';"
            "element('preset').dispatchEvent(new Event('change'))"
        )
        assert page.run("state.window") == window
    assert page.complaints == []


def test_only_a_ct_has_common_windows(report: Page) -> None:
    assert report.run("document.getElementById('presets').hidden")


def test_statistics_are_in_sight_at_once(report: Page) -> None:
    for index in range(3):
        _, top, _, height = box_of(report, ".labels tbody tr", index)
        assert top + height < 900


def test_the_position_is_that_of_the_stored_voxel(report: Page) -> None:
    report.click(*point_of(report, AXIAL, 3, 6))
    segmentation = phantom()
    stored = report.run("storedIndex(state.cursor)")
    x, y, z = segmentation.volume.affine[:3] @ [*stored, 1]
    text = report.run("document.getElementById('position').textContent")
    place = "  ".join(
        f"{letters[int(value >= 0)]} {abs(value):.1f}"
        for letters, value in zip(("LR", "PA", "IS"), (x, y, z), strict=True)
    )
    assert text.startswith(f"{place} mm  ·  voxel {', '.join(map(str, stored))}  ·  intensity")
    written = float(text.split("intensity ")[1].split()[0])
    assert written == pytest.approx(segmentation.volume.voxels[(0, *stored)], abs=1)


def test_a_double_click_enlarges_a_plane_and_back(report: Page) -> None:
    small = box_of(report, ".frame", 1)
    for larger in (True, False):
        x, y = point_of(report, CORONAL, 4, 4)
        report.click(x, y)
        report.click(x, y, count=2)
        report.settle()
        assert (box_of(report, ".frame", 1)[2] > 1.3 * small[2]) == larger


def test_averaged_scans_are_drawn(page: Page, tmp_path: Path) -> None:
    segmentation = phantom("PIR")
    write_report(tmp_path / "report.html", segmentation, voxel_bytes=900)
    show(page, tmp_path / "report.html")
    assert canvas(page, AXIAL, "image").shape[:2] == (10, 6)
    for column in range(6):
        page.click(*point_of(page, AXIAL, column, 4))
        stored = tuple(page.run("storedIndex(state.cursor)"))
        name = segmentation.label_names.get(int(segmentation.labels[stored]), "background")
        assert page.run("document.getElementById('position').textContent").endswith(name)
    assert page.complaints == []


def test_more_than_255_labels_are_drawn(page: Page, tmp_path: Path) -> None:
    segmentation = phantom("LPI")
    labels = np.arange(segmentation.labels.size).reshape(segmentation.labels.shape) % 301
    names = tuple(Label(value, f"label {value}") for value in range(301))
    manifest = replace(segmentation.manifest, output=Output(names))
    many = replace(segmentation, labels=labels.astype(np.uint16), manifest=manifest)
    write_report(tmp_path / "report.html", many)
    show(page, tmp_path / "report.html")
    for column, row in ((0, 0), (5, 7), (11, 9)):
        page.click(*point_of(page, AXIAL, column, row))
        value = labels[tuple(scene_of(page)["cursor"])]
        text = page.run("document.getElementById('position').textContent")
        assert text.endswith(f"label {value}" if value else "background")


def test_names_never_run(page: Page, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", hostile(), {HOSTILE: HOSTILE}, names=True)
    show(page, tmp_path / "report.html")
    assert page.run("window.ran === undefined")
    assert page.run("document.title") == HOSTILE.replace("/", "\\")
    assert page.run("document.images.length") == 0
    assert page.complaints == []


@pytest.mark.parametrize(
    "attempt",
    [
        "fetch('https://example.com/')",
        "fetch(location.href)",
        "new Promise((done, failed) => { const image = new Image(); image.onload = done;"
        " image.onerror = failed; image.src = 'https://example.com/a.png'; })",
        "import('data:text/javascript,1')",
    ],
)
def test_every_connection_is_forbidden(page: Page, tmp_path: Path, attempt: str) -> None:
    write_report(tmp_path / "report.html", phantom())
    show(page, tmp_path / "report.html")
    page.run(
        "window.blocked = [];"
        "addEventListener('securitypolicyviolation', e => blocked.push(e.violatedDirective))"
    )
    assert page.run(f"{attempt}.then(() => 'connected', () => 'refused')") == "refused"
    page.settle()
    assert page.run("blocked.length") > 0


def test_scripts_put_into_the_page_do_not_run(page: Page, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", phantom())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    altered = text.replace("</footer>", "<script>window.ran = true</script></footer>")
    (tmp_path / "report.html").write_text(altered, encoding="utf-8")
    show(page, tmp_path / "report.html")
    assert page.run("window.ran === undefined")


def test_a_browser_that_cannot_unpack_is_told_so(page: Page, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", phantom())
    script = page.call(
        "Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream"
    )
    show(page, tmp_path / "report.html")
    page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    message = page.run("document.getElementById('message').textContent")
    assert message.startswith("This browser cannot unpack the slices.")
    assert page.complaints == []


def damaged(content: str) -> str:
    return content[:100] + "AAAA" + content[104:]


def cut_off(content: str) -> str:
    voxels = zlib.decompress(base64.b64decode(content))
    return base64.b64encode(zlib.compress(voxels[:-1])).decode()


@pytest.mark.parametrize("change", [damaged, cut_off])
def test_slices_that_cannot_be_read_are_told_of(
    page: Page, tmp_path: Path, change: Callable[[str], str]
) -> None:
    write_report(tmp_path / "report.html", phantom())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    start = text.index('id="image">') + len('id="image">')
    end = text.index("<", start)
    (tmp_path / "report.html").write_text(
        text[:start] + change(text[start:end]) + text[end:], encoding="utf-8"
    )
    show(page, tmp_path / "report.html")
    message = page.run("document.getElementById('message').textContent")
    assert message.startswith("The slices cannot be shown")
    assert page.complaints == []
