"""A patient with four channels through BraTS networks, against MONAI's transforms and inferer.

    python benchmarks/predictions/four_channels.py PATIENT --out four_channels.json

PATIENT is a folder with ``FLAIR``, ``T1``, ``T1POST`` and ``T2`` (.nii.gz). Needs the extra
``segmaformer[monai]``. Weights are random, with outputs centred so that every label occurs. The
commands `sgmf export` and `sgmf infer` run in processes of their own; MONAI loads, orients, crops
and scales the same files in the order of channels that the training has, lays windows over them
around PyTorch, and brings labels back. A voxel whose decision turns if an output does by `TIE` is a
tie.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from segmaformer.models import create_model

TIE = 1e-4
WINDOW = (128, 128, 128)
LABELS = (0, 1, 2, 3)
PAINTED = (("whole tumor", 1), ("tumor core", 2), ("enhancing tumor", 3))
"""Regions and their labels, in the order in which they are painted."""


@dataclass(frozen=True)
class Case:
    """A network, and the use of it in its published training as MONAI would state it.

    Attributes
    ----------
    channels
        Files of the patient in the order in which the network takes them.
    scale
        Function that scales the cropped channels (4, X, Y, Z).
    regions
        Overlapping regions in the order of the outputs; without any, outputs are labels.
    changes
        Differences from the published configuration.
    options
        Options of `sgmf export`.
    """

    network: str
    channels: Sequence[str]
    orientation: str
    scale: Callable[[torch.Tensor], torch.Tensor]
    mode: str
    regions: Sequence[str] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    options: Sequence[str] = ()


def z_score(image: torch.Tensor) -> torch.Tensor:
    from monai.transforms import NormalizeIntensity

    return NormalizeIntensity(nonzero=False, channel_wise=True)(image)


def slices_to_one(image: torch.Tensor) -> torch.Tensor:
    from monai.transforms import ScaleIntensity

    to_one = ScaleIntensity(minv=0, maxv=1, channel_wise=True)
    return torch.stack([to_one(axial) for axial in image.unbind(3)], dim=3)


FLAIR_FIRST = ("FLAIR", "T1", "T1POST", "T2")
CASES = (
    Case(
        "segmamba", ("T2", "FLAIR", "T1", "T1POST"), "LPS", z_score, "gaussian",
        # A fourth of the published widths, so that a processor takes seconds for a window.
        changes={"feat_size": [12, 24, 48, 96], "hidden_size": 192},
    ),
    Case(
        "segformer3d", FLAIR_FIRST, "RAS", slices_to_one, "constant",
        regions=("tumor core", "whole tumor", "enhancing tumor"),
    ),
    Case(
        "segmaformer", FLAIR_FIRST, "RAS", z_score, "gaussian",
        regions=("whole tumor", "tumor core", "enhancing tumor"),
        options=("--patch-size", "128,128,128", "--tiling", "monai-gaussian"),
    ),
)  # fmt: skip


def monai_logits(case: Case, network: torch.nn.Module, files: Sequence[Path]) -> Any:
    """Return MONAI's cropped image with its history, and the logits on its grid."""
    from monai.inferers import sliding_window_inference
    from monai.transforms import Compose, CropForegroundd, LoadImaged, Orientationd

    prepare = Compose(
        [
            LoadImaged("image"),
            Orientationd("image", axcodes=case.orientation, labels=None),
            CropForegroundd("image", source_key="image", select_fn=lambda image: image != 0),
        ]
    )
    data = prepare({"image": [str(path) for path in files]})
    volume = case.scale(data["image"].as_tensor()).permute(0, 3, 2, 1)  # z, y, x
    with torch.inference_mode():
        logits = sliding_window_inference(
            volume[None], WINDOW, 1, network, overlap=0.5, mode=case.mode
        )
    return prepare, data, logits[0].permute(0, 3, 2, 1)


def monai_labels(
    case: Case, network: torch.nn.Module, files: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray]:
    """Segment with MONAI; labels and ties in the order in which the files store voxels."""
    from monai.transforms import Invertd

    prepare, data, logits = monai_logits(case, network, files)
    if case.regions:
        labels = torch.zeros(logits.shape[1:], dtype=torch.uint8)
        for name, value in PAINTED:
            labels[logits[case.regions.index(name)] > 0] = value
        ties = (logits.abs() < TIE).any(0)
    else:
        first, second = logits.topk(2, dim=0).values
        labels, ties = logits.argmax(0), first - second < TIE
    back = Invertd(["labels", "ties"], transform=prepare, orig_keys="image", nearest_interp=True)
    for name, found in (("labels", labels), ("ties", ties)):
        data[name] = data["image"][:1].clone()
        data[name][0] = found.float()
    data = back(data)
    return data["labels"].numpy()[0].astype(np.uint8), data["ties"].numpy()[0] > 0.5


def centred_network(case: Case, files: Sequence[Path]) -> torch.nn.Module:
    """Make a random network, and shift the last bias so that outputs have medians of zero."""
    torch.manual_seed(0)
    network = create_model(case.network, preset="brats", **case.changes).eval()
    _, _, logits = monai_logits(case, network, files)
    last = [m for m in network.modules() if getattr(m, "out_channels", 0) == len(logits)][-1]
    last.bias.data -= logits.flatten(1)[:, ::7].median(1).values
    return network


def command_labels(case: Case, weights: Path, files: Sequence[Path], folder: Path) -> np.ndarray:
    """Export and segment by the commands."""
    scans = folder / "scans"
    scans.mkdir()
    for index, file in enumerate(files):
        (scans / f"patient_{index:04d}.nii.gz").symlink_to(file.resolve())
    package, labels = folder / "model.sgmf", folder / "labels"
    sgmf = [str(Path(sys.executable).with_name("sgmf"))]
    subprocess.run([*sgmf, "export", str(weights), "-o", str(package), *case.options], check=True)
    subprocess.run([*sgmf, "infer", str(scans), "-m", str(package), "-o", str(labels)], check=True)
    (written,) = labels.glob("*.nii.gz")
    return np.asarray(nibabel.load(written).dataobj).astype(np.uint8)


def compare(case: Case, patient: Path) -> dict[str, Any]:
    """Segment a patient both ways."""
    files = [patient / f"{name}.nii.gz" for name in case.channels]
    network = centred_network(case, files)
    theirs, ties = monai_labels(case, network, files)
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name) / f"{case.network}.pt"
        torch.save(network.state_dict(), weights)
        ours = command_labels(case, weights, files, Path(name))
    unlike = ours != theirs
    return {
        "network": case.network,
        "labels": np.bincount(theirs.ravel(), minlength=len(LABELS)).tolist(),
        "unlike": int((unlike & ~ties).sum()),
        "unlike_ties": int((unlike & ties).sum()),
        "ties": int(ties.sum()),
    }


def main() -> None:
    """Compare all networks, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("patient", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", help="networks to run")
    options = parser.parse_args()
    rows = []
    for case in CASES:
        if options.only is None or case.network in options.only:
            rows.append(compare(case, options.patient))
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        names = ("monai", "torch", "onnxruntime", "nibabel", "numpy")
        software = {name: version(name) for name in names}
        document = {"software": software, "tie": TIE, "cases": rows}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
