"""Prepare ACDC for training, and lay out its test scans for `sgmf infer` and `sgmf verify`.

    python examples/acdc/prepare.py ACDC --out DATA

ACDC holds ``training`` and ``testing`` with ``patientNNN/patientNNN_frameMM.nii.gz`` and
``..._gt.nii.gz``. DATA gets ``prepared`` (an .npz for every training scan, on the network's grid)
and links: ``imagesTs`` and ``labelsTs`` to the test scans, ``imagesCal`` to the training scans that
are held out, on which int8 can be calibrated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cases import HELD_OUT
from training_plans import LABELS, RECORD

from segmaformer.runtime.pipeline.preprocessing import preprocess
from segmaformer.runtime.pipeline.resampling import resample
from segmaformer.runtime.scans.formats import read_labels, read_scan
from segmaformer.runtime.spec import Preprocessing

Image = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.uint8]


def prepare(scan: Path, labels: Path, spec: Preprocessing) -> tuple[Image, LabelMap]:
    """Bring a scan and its label map to the network's grid.

    Labels follow the scan's axes and crop; the label that is largest after linear
    interpolation of every label's mask wins.

    Returns
    -------
    image
        Normalised intensities (1, D, H, W).
    labels
        Shape (D, H, W).
    """
    prepared = preprocess(read_scan([scan]), spec)
    stored = prepared.reorientation.apply(read_labels(labels).voxels[0])[prepared.box]
    masks = np.stack([stored == value for value in LABELS.values()]).astype(np.float32)
    _, depth, height, width = prepared.image.shape
    resampled = resample(
        masks,
        (depth, height, width),
        spacing_mm=prepared.scan_spacing_mm,
        new_spacing_mm=prepared.spacing_mm,
        resampling=spec.logits_resampling,
    )
    return prepared.image, resampled.argmax(0).astype(np.uint8)


def labels_of(scan: Path) -> Path:
    """Return the path of the label map beside a scan."""
    return scan.with_name(scan.name.replace(".nii.gz", "_gt.nii.gz"))


def scans_in(folder: Path) -> list[Path]:
    """Find the scans of both phases of all patients, without label maps and 4-D series."""
    return sorted(folder.glob("patient*/patient*_frame[0-9][0-9].nii.gz"))


def link(scans: list[Path], images: Path, labels: Path | None = None) -> None:
    """Link scans and, if there is a folder for them, label maps under the same names."""
    for scan in scans:
        for folder, target in ((images, scan), (labels, labels_of(scan))):
            if folder is None:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / scan.name
            place.unlink(missing_ok=True)
            place.symlink_to(target.resolve())


def main() -> None:
    """Prepare every training scan and link all others."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("acdc", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    spec = RECORD.preprocessing()
    prepared = options.out / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    training = scans_in(options.acdc / "training")
    for scan in training:
        image, labels = prepare(scan, labels_of(scan), spec)
        np.savez_compressed(
            prepared / scan.name.replace(".nii.gz", ".npz"), image=image, labels=labels
        )
    patients = sorted({scan.parent.name for scan in training})[::HELD_OUT]
    link([scan for scan in training if scan.parent.name in patients], options.out / "imagesCal")
    test = scans_in(options.acdc / "testing")
    link(test, options.out / "imagesTs", options.out / "labelsTs")
    print(f"prepared {len(training)} training scans; linked {len(test)} test scans")


if __name__ == "__main__":
    main()
