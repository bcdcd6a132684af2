"""Parts of a report in plain HTML: tables and lists, readable without a script.

Every text is escaped here. Colours are in ``data-colour`` attributes, because the page's policy
allows no style attributes.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segmaformer.runtime.package.card import spacing_text
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.results.display_planes import PLANES, Plane
from segmaformer.runtime.results.statistics import MM3_PER_ML
from segmaformer.runtime.scans.spacing import known_spacings
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Reader
from segmaformer.runtime.system.printable import printable

if TYPE_CHECKING:
    from segmaformer.runtime.results.segmentation import Segmentation


def as_html(text: str) -> str:
    """Escape a text for HTML, so that it cannot change the page or its direction."""
    return html.escape(printable(text))


@dataclass(frozen=True)
class ReportLabel:
    """A label that was found: its entry in the statistics, and its colour in sRGB."""

    measured: Mapping[str, Any]
    colour: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the label as HTML."""
        return as_html(self.measured["name"])

    @property
    def swatch(self) -> str:
        """HTML of a square in the label's colour."""
        return f'<i class="swatch" data-colour="#{bytes(self.colour).hex()}"></i>'


def plane_sections() -> str:
    """Return the three planes, empty."""
    return "\n".join(_plane_section(plane) for plane in PLANES)


def statistics_table(statistics: Mapping[str, Any], labels: Sequence[ReportLabel]) -> str:
    """Return a row for each label that was found, and the names of the others.

    Rows have a checkbox each and are numbered as in the packed voxels.
    """
    absent = [entry["name"] for entry in statistics["labels"] if not entry["voxel_count"]]
    rows = "\n".join(_statistics_row(rank, label) for rank, label in enumerate(labels, start=1))
    table = (
        '<div class="scroll"><table class="labels">\n<thead><tr><th>Label</th>'
        "<th>Volume (ml)</th><th>Voxels</th><th>Intensity, mean ± SD</th><th>Edge</th>"
        "<th>Centroid R, A, S (mm)</th><th>Value</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )
    remark = f'<p class="quiet">Not found: {as_html(", ".join(absent))}.</p>' if absent else ""
    return (table if labels else '<p class="quiet">No label was found.</p>') + remark


def fact_cards(
    segmentation: Segmentation, run_manifest: Mapping[str, Any] | None, *, names: bool = False
) -> str:
    """Return cards of facts about the scan, the package and the run."""
    run = run_manifest or {"backend": segmentation.backend, "seconds": segmentation.seconds}
    cards = {
        "Scan": _scan_facts(
            segmentation.volume, segmentation.manifest.preprocessing.reader, names=names
        ),
        "Package": _package_facts(segmentation.manifest),
        "Run": run,
    }
    return "\n".join(
        f"<article><h2>{title}</h2>{_definitions(facts)}</article>"
        for title, facts in cards.items()
    )


def product_text(numbers: Sequence[float]) -> str:
    """Write numbers along three axes, such as ``1 × 1 × 2.5``."""
    return " \N{MULTIPLICATION SIGN} ".join(map(_number, numbers))


def _plane_section(plane: Plane) -> str:
    letters = "".join(
        f'<span class="letter {side}">{getattr(plane, side)}</span>'
        for side in ("left", "right", "top", "bottom")
    )
    return (
        f'<section class="plane" tabindex="0" aria-label="{plane.name} slices" '
        f'data-across="{plane.across}" data-down="{plane.down}" data-through="{plane.through}">\n'
        f'<p><b>{plane.name}</b><span class="place quiet"></span>'
        '<span class="slice quiet"></span></p>\n'
        '<div class="stage"><div class="frame"><canvas class="image"></canvas>'
        '<canvas class="overlay"></canvas><i class="cross upright"></i><i class="cross level"></i>'
        '<svg class="ruler" viewBox="0 0 1 1" preserveAspectRatio="none"><line></line></svg>'
        f'<span class="length"></span></div><div class="edges">{letters}</div>'
        '<span class="bar"></span></div>\n'
        f'<input type="range" min="0" value="0" aria-label="{plane.name} slice">\n</section>'
    )


def _statistics_row(rank: int, label: ReportLabel) -> str:
    measured = label.measured
    moments = zip(measured["intensity_mean"], measured["intensity_std"], strict=True)
    intensity = "; ".join(f"{_number(mean)} ± {_number(std)}" for mean, std in moments)
    centroid = ", ".join(f"{position:.1f}" for position in measured["centroid_mm"])
    edge = '<td class="warn">touches</td>' if measured["touches_border"] else "<td></td>"
    return (
        f'<tr><td><input type="checkbox" checked data-rank="{rank}" aria-label="Show {label.name}">'
        f'{label.swatch}<button type="button" data-go="{rank}">{label.name}</button></td>'
        f"<td>{_ml(measured)}</td><td>{measured['voxel_count']:,}</td>"
        f"<td>{intensity}</td>{edge}<td>{centroid}</td><td>{measured['value']}</td></tr>"
    )


def _scan_facts(volume: Volume, reader: Reader | None, *, names: bool) -> dict[str, Any]:
    spacings = known_spacings(volume, reader)
    seen = {} if len(spacings) == 1 else {"spacing, of grid and volumes": spacings["reader"]}
    extent_mm = [n * step for n, step in zip(volume.shape, volume.spacing_mm, strict=True)]
    return {
        **({"files": [path.name for path in volume.source]} if names else {}),
        "voxels": product_text(volume.shape),
        "spacing": f"{product_text(volume.spacing_mm)} mm",
        **{name: f"{product_text(edges)} mm" for name, edges in seen.items()},
        "extent": f"{product_text(extent_mm)} mm",
        "axes run towards": volume.axis_codes,
    }


def _package_facts(manifest: Manifest) -> dict[str, Any]:
    network, spec = manifest.network, manifest.preprocessing
    return {
        "name": manifest.name,
        "created": manifest.created,
        "network": f"{network.name}, {network.parameters:,} parameters",
        "checkpoint": network.checkpoint_file,
        "checkpoint SHA-256": network.checkpoint_sha256,
        "licence": network.licence or "not recorded",
        "channels": list(spec.channels),
        "tile": product_text(manifest.tiling.tile),
        "spacing": spacing_text(spec),
        "verified on": manifest.verification_tiles,
        "agreement with PyTorch": {
            name: variant.parity.get("label_agreement")
            for name, variant in manifest.variants.items()
        },
        "assumed": list(network.assumptions),
    }


def _definitions(facts: Mapping[str, Any]) -> str:
    rows = (
        f"<dt>{as_html(str(key).replace('_', ' '))}</dt><dd>{_value(value)}</dd>"
        for key, value in facts.items()
    )
    return f"<dl>{''.join(rows)}</dl>"


def _value(value: Any) -> str:
    """Convert a JSON-like value to HTML: mappings to nested lists, sequences line by line."""
    if isinstance(value, Mapping):
        return _definitions(value) if value else "none"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "<br>".join(_value(item) for item in value) if value else "none"
    if value is None:
        return "none"
    return as_html(_number(value) if isinstance(value, float) else str(value))


def _ml(measured: Mapping[str, Any]) -> str:
    volume_ml = measured["volume_mm3"] / MM3_PER_ML
    return f"{volume_ml:,.1f}" if volume_ml >= 100 else f"{volume_ml:.2f}"


def _number(value: float) -> str:
    """Write four digits, without an exponent if that is readable."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
