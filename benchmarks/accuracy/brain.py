"""Dice of the brain model on OASIS brains labelled by experts, and its volumes of ICBM152.

    python benchmarks/accuracy/brain.py brain.sgmf OASIS --out brain.json

OASIS is the folder ``inst/extdata`` of the repository muschellij2/malf.templates: 35 T1 scans
without skull (``NNNN_SS.nii.gz``) and their labels (``NNNN_glm.nii.gz``), from the MICCAI 2012
workshop on multi-atlas labelling. Terms: CC BY-NC; the scans come from the OASIS project, the
labels are "provided by Neuromorphometrics, Inc. under academic subscription". Use them for
measurement alone.

Intervals are 95 % over scans.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.calibration.scores.confidence import METHOD, mean_over_cases
from segmaformer.calibration.scores.segmentation_scores import score_labels, structures
from segmaformer.demo_scan import template_path
from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.results.statistics import MM3_PER_ML
from segmaformer.runtime.scans.formats import read_labels, read_scan

COUNTERPARTS: dict[str, tuple[int, ...]] = {
    "cortex": tuple(range(100, 208)),
    "white matter": (44, 45, 53, 54, 63, 64, 69),
    "deep grey nuclei": (23, 30, 36, 37, 55, 56, 57, 58, 59, 60, 61, 62),
    "ventricles": (4, 11, 15, 49, 50, 51, 52),
    "cerebellar cortex": (38, 39, 71, 72, 73),
    "cerebellar white matter": (40, 41),
    "brain stem": (35,),
    "hippocampus and amygdala": (31, 32, 47, 48),
}
"""Labels of each class, as the training divides FreeSurfer's: lesions, vessels and the optic chiasm
are white matter, the ventral diencephalon is deep grey."""
NO_COUNTERPART = {
    42: "right cerebral exterior",
    43: "left cerebral exterior",
    46: "cerebrospinal fluid, labelled in part only",
    65: "in no list of the set's labels: 3 voxels",
    66: "in no list of the set's labels: 5 voxels",
    74: "in no list of the set's labels: 523 voxels of one scan",
    75: "left basal forebrain",
    76: "right basal forebrain",
}
"""Labels whose voxels count for no region."""
TISSUES: dict[str, tuple[str, ...]] = {
    "grey": ("cortex", "deep grey nuclei", "cerebellar cortex", "hippocampus and amygdala"),
    "white": ("white matter", "cerebellar white matter", "brain stem"),
    "fluid": ("cerebrospinal fluid", "ventricles"),
}
UNLABELLED = 0
NORMAL_ML = {
    "brain": (
        "1173 to 1626",
        "20 adults: P. A. Filipek et al., Cerebral Cortex 4, 344-360 (1994)",
    ),
    "cerebellum": ("112, SD 16", "37 adults: P. R. Escalona et al., AJNR 12, 927-929 (1991)"),
    "hippocampus and amygdala": (
        "8.85 (6.53 and 2.31)",
        "40 adults, stereotaxic space: J. C. Pruessner et al., Cerebral Cortex 10, 433-442 (2000)",
    ),
}
"""Volumes that others measured, and where; the template is larger than most heads."""


def truth_of(labels: np.ndarray, inside: np.ndarray, classes: dict[str, int]) -> np.ndarray:
    """Turn expert labels into classes.

    Fluid is what lies inside the brain mask without a label, beside the little that has one.

    Returns
    -------
    ndarray
        Values of `classes`, uint8; 255 where a label has no counterpart.

    Raises
    ------
    ValueError
        A label is in no table.
    """
    truth = np.full(labels.shape, 255, np.uint8)
    truth[labels == UNLABELLED] = 0
    truth[inside & (labels == UNLABELLED)] = classes["cerebrospinal fluid"]
    for name, values in COUNTERPARTS.items():
        truth[np.isin(labels, values)] = classes[name]
    known = {UNLABELLED, *NO_COUNTERPART, *(v for values in COUNTERPARTS.values() for v in values)}
    if unknown := sorted(set(np.unique(labels).tolist()) - known):
        raise ValueError(f"labels {unknown} are in no table; add them to COUNTERPARTS")
    return truth


def score_brain(predictor: Predictor, scan: Path) -> dict[str, float | None]:
    """Segment one scan; return the Dice of each region and tissue, and the mean of the tissues."""
    found = predictor.predict(scan)
    regions = structures(predictor.package.manifest.output)
    classes = {name: values[0] for name, values in regions.items()}
    labels = read_labels(scan.with_name(scan.name.replace("_SS", "_glm"))).voxels[0]
    truth = truth_of(labels, read_scan([scan]).voxels[0] > 0, classes)
    judged = truth != 255
    merged = {name: tuple(classes[part] for part in parts) for name, parts in TISSUES.items()}
    scores = score_labels(
        np.where(judged, found.labels, 0),
        np.where(judged, truth, 0),
        found.volume.spacing_mm,
        {**{name: regions[name] for name in COUNTERPARTS}, **merged},
    )
    dice = {name: score.dice for name, score in scores.items()}
    return {**dice, "mean of tissues": _mean(dice[name] for name in TISSUES)}


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def template_volumes(predictor: Predictor) -> dict[str, float]:
    """Return the volumes of the ICBM152 template in ml."""
    found = predictor.predict(template_path())
    voxel_ml = float(np.prod(found.volume.spacing_mm)) / MM3_PER_ML
    regions = structures(predictor.package.manifest.output)
    volumes = {
        name: voxel_ml * int(np.isin(found.labels, values).sum())
        for name, values in regions.items()
    }
    tissue = volumes.keys() - set(TISSUES["fluid"])
    volumes["brain"] = sum(volumes[name] for name in tissue)
    volumes["cerebellum"] = volumes["cerebellar cortex"] + volumes["cerebellar white matter"]
    return volumes


def main() -> None:
    """Score all brains, or the first ones, and measure the template."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("oasis", type=Path)
    parser.add_argument("--most", type=int, help="number of scans; default: all")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    predictor = Predictor(Package.open(options.package))
    scans = sorted(options.oasis.glob("*_SS.nii.gz"))[: options.most]
    if not scans:
        parser.error(f"{options.oasis} holds no *_SS.nii.gz; give inst/extdata of malf.templates")
    cases = [score_brain(predictor, scan) for scan in scans]
    means = {name: mean_over_cases(case[name] for case in cases) for name in cases[0]}
    print(f"{len(scans)} scans\n\n| | Dice | interval |\n|---|---|---|")
    for name, mean in means.items():
        if mean is not None:
            interval = "" if mean.low is None else f"{mean.low:.3f} to {mean.high:.3f}"
            print(f"| {name} | {mean.value:.3f} | {interval} |")
    volumes = template_volumes(predictor)
    print("\n| ICBM152 | ml | published, ml | source |\n|---|---|---|---|")
    for name, volume in volumes.items():
        print(f"| {name} | {volume:.1f} | {' | '.join(NORMAL_ML.get(name, ('', '')))} |")
    if options.out:
        document: dict[str, Any] = {
            "scans": len(scans),
            "confidence": METHOD,
            "dice": {n: None if m is None else dataclasses.asdict(m) for n, m in means.items()},
            "icbm152_ml": volumes,
            "no_counterpart": NO_COUNTERPART,
        }
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
