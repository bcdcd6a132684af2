from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import zlib
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scans.report_phantom import HOSTILE, hostile, phantom

from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.results.report import write_report
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.spec import Normalization

TIMES = " \N{MULTIPLICATION SIGN} "
CODES = [
    "".join(letters)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for letters in itertools.product(*axes)
]


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


class ParsedPage(HTMLParser):
    """Elements of a page, each with the text that is directly in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in ("meta", "input", "br", "img"):
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def text_of(self, *tags: str) -> str:
        return "".join(element.text for element in self.elements if element.tag in tags)

    def script(self, name: str | None = None) -> str:
        """Return the text of the script element with this id, or of the one that is run without."""
        scripts = [element for element in self.elements if element.tag == "script"]
        (found,) = (script for script in scripts if script.attributes.get("id") == name)
        return found.text

    @property
    def scene(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.script("scene"))
        return document

    def voxels(self, name: str) -> np.ndarray:
        """Unpack image or labels (X, Y, Z) in the order of display."""
        dtype = {"image": "u1", "labels": f"<u{self.scene['label_bytes']}"}[name]
        content = zlib.decompress(base64.b64decode(self.script(name)))
        return np.frombuffer(content, dtype).reshape(self.scene["shape"], order="F")


def written(tmp_path: Path, segmentation: Segmentation, *arguments: Any, **options: Any) -> Path:
    path = tmp_path / "report.html"
    write_report(path, segmentation, *arguments, **options)
    return path


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = ParsedPage(written(tmp_path, phantom()))
    assert {element.tag for element in page.elements}.isdisjoint(
        {"link", "img", "iframe", "object", "base"}
    )
    names = {name for element in page.elements for name in element.attributes}
    assert names.isdisjoint({"src", "href", "style", "action", "srcset"})
    assert not [name for name in names if name.startswith("on")]
    assert "url(" not in page.text_of("style")
    assert "@import" not in page.text_of("style")


def test_the_policy_allows_this_style_and_this_script_only(tmp_path: Path) -> None:
    page = ParsedPage(written(tmp_path, phantom()))
    (policy,) = (
        element.attributes["content"] or ""
        for element in page.elements
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", page.text_of("style")), ("script", page.script()))
    }
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{hashes['style']}'",
        "script-src": f"'sha256-{hashes['script']}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_it_says_what_it_is_not(tmp_path: Path) -> None:
    text = ParsedPage(written(tmp_path, phantom())).text_of("p")
    assert "Research use only. Not a medical device." in text


@pytest.mark.parametrize("codes", CODES)
def test_the_picture_does_not_depend_on_the_order_of_storage(tmp_path: Path, codes: str) -> None:
    expected = ParsedPage(written(tmp_path, phantom("LPI")))
    page = ParsedPage(written(tmp_path, phantom(codes)))
    for name in ("image", "labels"):
        assert np.array_equal(page.voxels(name), expected.voxels(name))
    for name in ("shape", "spacing_mm", "centre", "window", "intensities"):
        assert page.scene[name] == pytest.approx(expected.scene[name])


@pytest.mark.parametrize("codes", ["RAS", "PIR", "SLA"])
def test_the_scene_leads_back_to_the_stored_voxels(tmp_path: Path, codes: str) -> None:
    segmentation = phantom(codes)
    page = ParsedPage(written(tmp_path, segmentation))
    stored, ranks = page.scene["stored"], page.voxels("labels")
    values = [0, 1, 2, 4]
    for place in np.ndindex(*ranks.shape):
        index = [0, 0, 0]
        for axis, position in enumerate(place):
            reverse = stored["reverse"][axis]
            last = stored["extents"][axis] - 1
            index[stored["axes"][axis]] = last - position if reverse else position
        assert segmentation.labels[tuple(index)] == values[ranks[place]]
    assert np.array_equal(stored["affine"], segmentation.volume.affine)


def test_levels_stand_for_the_intensities(tmp_path: Path) -> None:
    segmentation = phantom("LPI")
    page = ParsedPage(written(tmp_path, segmentation))
    shown = np.array(page.scene["intensities"])[page.voxels("image")]
    inside = np.clip(segmentation.volume.voxels[0], shown.min(), shown.max())
    assert np.abs(shown - inside).max() < 1.0


def test_a_ct_package_chooses_the_window(tmp_path: Path) -> None:
    ct = Normalization("ct", mean=100, std=20, lower=80, upper=130)
    segmentation = phantom()
    spec = replace(segmentation.manifest.preprocessing, normalization=(ct,))
    manifest = replace(segmentation.manifest, preprocessing=spec)
    page = ParsedPage(written(tmp_path, replace(segmentation, manifest=manifest)))
    assert page.scene["window"] == [80, 130]
    assert page.scene["windows"]["lung"] == [-1350, 150]
    assert ParsedPage(written(tmp_path, segmentation)).scene["windows"] == {}


def test_labels_have_the_colours_of_the_preview(tmp_path: Path) -> None:
    page = ParsedPage(written(tmp_path, phantom()))
    colours = label_colours(4)[[0, 1, 3]]
    assert page.scene["labels"] == colours.tolist()
    swatches = [
        element.attributes["data-colour"]
        for element in page.elements
        if element.tag == "i" and "swatch" in (element.attributes["class"] or "")
    ]
    assert swatches == [f"#{bytes(colour).hex()}" for colour in colours]


def test_statistics_stand_in_the_table(tmp_path: Path) -> None:
    segmentation = phantom()
    text = ParsedPage(written(tmp_path, segmentation)).text_of("td")
    first, second, fourth = (
        entry for entry in segmentation.statistics()["labels"] if entry["voxel_count"]
    )
    assert f"{first['volume_mm3'] / 1000:.2f}{first['voxel_count']}" in text
    assert f"{second['volume_mm3'] / 1000:.2f}" in text
    assert f"{fourth['intensity_mean'][0]:.4g} ± {fourth['intensity_std'][0]:.4g}" in text
    assert ", ".join(f"{position:.1f}" for position in second["centroid_mm"]) in text
    assert text.count("touches") == 1


def test_absent_labels_are_named(tmp_path: Path) -> None:
    assert "Not found: absent." in ParsedPage(written(tmp_path, phantom())).text_of("p")


def test_known_statistics_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation = phantom()
    statistics = segmentation.statistics()
    monkeypatch.setattr(Segmentation, "statistics", None)
    written(tmp_path, segmentation, statistics=statistics)


def test_the_run_is_shown_as_it_is_given(tmp_path: Path) -> None:
    run = {"label_map_sha256": "ab12", "scan": [{"name": "a.nii"}, 7], "tta": None, "seconds": {}}
    page = ParsedPage(written(tmp_path, phantom(), run))
    assert "label map sha256" in page.text_of("dt")
    assert all(word in page.text_of("dd") for word in ("ab12", "7", "none"))
    assert "a.nii" not in page.text_of("dd")
    named = ParsedPage(written(tmp_path, phantom(), run, names=True))
    assert "a.nii" in named.text_of("dd")


def test_without_a_manifest_backend_and_seconds_are_shown(tmp_path: Path) -> None:
    text = ParsedPage(written(tmp_path, phantom())).text_of("dd")
    assert "ONNX Runtime, CPU, fp32" in text
    assert "0.25" in text


def test_scan_and_package_are_described(tmp_path: Path) -> None:
    unnamed = ParsedPage(written(tmp_path, phantom("LPS")))
    assert unnamed.text_of("title") == "Scan"
    assert "scan.nii.gz" not in unnamed.text_of("dd", "h1", "p", "title")
    page = ParsedPage(written(tmp_path, phantom("LPS"), names=True))
    text = page.text_of("dd")
    assert page.text_of("title") == "scan.nii.gz"
    assert "/somewhere" not in page.text_of("dd", "h1", "p", "title")
    for fact in ("12 x 10 x 8", "1 x 2 x 3 mm", "12 x 20 x 24 mm", "LPS", "sample", "c0ffee"):
        assert fact.replace(" x ", TIMES) in text


def test_the_channel_shown_is_named(tmp_path: Path) -> None:
    segmentation = phantom("LPI", channels=2)
    first = ParsedPage(written(tmp_path, segmentation))
    second = ParsedPage(written(tmp_path, segmentation, channel=1))
    assert "Channel 1 of 2: T1." in first.text_of("p")
    assert "Channel 2 of 2: T2." in second.text_of("p")
    assert not np.array_equal(first.voxels("image"), second.voxels("image"))


@pytest.mark.parametrize("channel", [-1, 1])
def test_other_channels_are_refused(tmp_path: Path, channel: int) -> None:
    with pytest.raises(ValueError, match="the scan has 1, counted from 0"):
        written(tmp_path, phantom(), channel=channel)


def test_averaging_is_said_and_kept_consistent(tmp_path: Path) -> None:
    segmentation = phantom("LPI")
    path = written(tmp_path, segmentation, voxel_bytes=900)
    page = ParsedPage(path)
    assert f"a pixel stands for 2{TIMES}1{TIMES}1 voxels of the scan" in page.text_of("p")
    scene = page.scene
    assert scene["shape"] == [6, 10, 8]
    assert scene["spacing_mm"] == [2, 2, 3]
    assert scene["stored"]["factors"] == [2, 1, 1]
    assert all(index < extent for index, extent in zip(scene["centre"], [6, 10, 8], strict=True))
    whole = ParsedPage(written(tmp_path, segmentation))
    assert page.text_of("td") == whole.text_of("td")


@pytest.mark.parametrize(("degrees", "said"), [(0, False), (4, False), (12, True), (90, False)])
def test_tilted_planes_are_said_to_be(tmp_path: Path, degrees: float, said: bool) -> None:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    segmentation = phantom()
    volume = replace(segmentation.volume, affine=turn @ segmentation.volume.affine)
    text = ParsedPage(written(tmp_path, replace(segmentation, volume=volume))).text_of("p")
    assert (f"tilted by up to {degrees} degrees" in text) == said


def test_a_budget_for_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold one voxel"):
        written(tmp_path, phantom(), voxel_bytes=4)


def test_nothing_is_written_into_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "none" / "report.html", phantom())


def test_names_are_text_and_never_elements(tmp_path: Path) -> None:
    page = ParsedPage(
        written(tmp_path, hostile(), {HOSTILE: [HOSTILE, {"key": HOSTILE}]}, names=True)
    )
    ordinary = ParsedPage(written(tmp_path, phantom(), {"a": ["b", {"key": "c"}]}, names=True))
    assert [element.tag for element in page.elements] == [
        element.tag for element in ordinary.elements
    ]
    assert HOSTILE in page.text_of("dd")
    assert HOSTILE in page.text_of("button")
    assert page.text_of("title") == HOSTILE.replace("/", "\\")
    assert page.script() == ordinary.script()


def test_names_that_are_no_text_are_shown_in_ascii(tmp_path: Path) -> None:
    segmentation = phantom()
    volume = replace(segmentation.volume, source=(Path("scan\udcff\u202e\x1b.nii"),))
    page = ParsedPage(written(tmp_path, replace(segmentation, volume=volume), names=True))
    assert page.text_of("title") == r"scan\udcff\u202e\x1b.nii"


def test_volumes_without_files_have_a_report(tmp_path: Path) -> None:
    segmentation = phantom()
    volume = replace(segmentation.volume, source=())
    page = ParsedPage(written(tmp_path, replace(segmentation, volume=volume)))
    assert page.text_of("title") == "Scan"


def test_empty_and_constant_scans_have_a_report(tmp_path: Path) -> None:
    segmentation = phantom()
    volume = replace(segmentation.volume, voxels=np.full_like(segmentation.volume.voxels, 7))
    empty = replace(segmentation, volume=volume, labels=np.zeros_like(segmentation.labels))
    page = ParsedPage(written(tmp_path, empty))
    assert "No label was found." in page.text_of("p")
    assert "table" not in {element.tag for element in page.elements}
    lower, upper = page.scene["window"]
    assert upper > lower


def test_placeholders_are_all_filled(tmp_path: Path) -> None:
    text = written(tmp_path, phantom()).read_text(encoding="utf-8")
    assert re.findall(r"\{\{\w+\}\}", text) == []
