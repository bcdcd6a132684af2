"""Whole predictions against nnU-Net v2's: its readers, orientations, stale headers and units.

    python benchmarks/predictions/nnunet_predictions.py SCANS --out nnunet_predictions.json

Needs an environment with both ``segmaformer[export]`` and ``nnunetv2``. SCANS is a folder of NIfTI
files, such as ``imagesTr`` of the Medical Segmentation Decathlon's Task04. Every case rewrites one
of them with another order of axes and another header; the reference model then segments it twice,
in nnU-Net with PyTorch and in ONNX Runtime here, both with the plans of that case. nnU-Net sums
logits in float32, since its float16 sums decide voxels by their rounding. A voxel where its two
largest logits are closer than `TIE` is a tie: PyTorch and ONNX Runtime round differently there.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, "/nonexistent")

READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")
AXES = ("RAS", "LPS", "LAS", "PIR", "SAL")
HEADERS = (
    *("sform", "qform", "both", "stale sform", "stale pixdim", "stale sform beside qform"),
    *("no unit", "micrometres", "metres"),
)
UNITS = {"no unit": (0, 1.0), "micrometres": (3, 1000.0), "metres": (1, 0.001)}
EDGES = (0.9, 1.1, 1.0)
STALE = (1.3, 1.0, 0.8)
TIE = 1e-4


@dataclass(frozen=True)
class Case:
    """One scan as a file, and the reader of the training that segments it."""

    reader: str
    axes: str
    header: str

    @property
    def units_per_mm(self) -> float:
        return UNITS.get(self.header, (2, 1.0))[1]

    @property
    def spacing(self) -> list[float]:
        """Spacing of the network's grid, in the reader's millimetres."""
        factor = self.units_per_mm if self.reader.startswith("Nibabel") else 1.0
        return [factor, factor, factor]

    def write(self, voxels: np.ndarray, path: Path) -> None:
        """Write voxels (X, Y, Z), which run towards RAS, in this case's form."""
        edges = np.array(EDGES) * self.units_per_mm
        image = nibabel.Nifti1Image(voxels, np.diag([*edges, 1]))
        turn = nibabel.orientations.axcodes2ornt(self.axes)
        image = image.as_reoriented(
            nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), turn)
        )
        header = image.header.copy()
        header.set_sform(image.affine, code=0 if self.header == "qform" else 1)
        with_qform = self.header in ("qform", "both", "stale sform beside qform")
        header.set_qform(image.affine, code=1 if with_qform else 0)
        if self.header.startswith("stale sform"):
            for name in ("srow_x", "srow_y", "srow_z"):
                header[name][:3] *= STALE
        if self.header == "stale pixdim":
            header["pixdim"][1:4] *= STALE
        header["xyzt_units"] = UNITS.get(self.header, (2, 1.0))[0]
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, header), path)


def cases() -> Iterator[Case]:
    for reader, axes, header in itertools.product(READERS, AXES, HEADERS):
        yield Case(reader, axes, header)


def nnunet_labels(
    predictor: Any, scans: Sequence[Path], folder: Path, previous: Path | None = None
) -> tuple[np.ndarray, ...]:
    """Segment a scan with a prepared predictor of nnU-Net, which sums logits in float32.

    Parameters
    ----------
    predictor
        An ``nnUNetPredictor`` that holds a network.
    scans
        One file for each channel.
    folder
        For ``nnunet_labels.nii.gz``, the label map as nnU-Net writes it.
    previous
        Label map of a cascade's first stage, as nnU-Net wrote it.

    Returns
    -------
    labels, ties
        In the order in which the scan is stored; ties are 1 where rounding decides.
    """
    import torch
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as to_labels,
    )
    from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

    manager, configuration = predictor.plans_manager, predictor.configuration_manager
    meaning = predictor.label_manager
    reader = manager.image_reader_writer_class()
    voxels, properties = reader.read_images([str(scan) for scan in scans])
    preprocessor = configuration.preprocessor_class(verbose=False)
    stage = None if previous is None else reader.read_seg(str(previous))[0]
    image, resized, properties = preprocessor.run_case_npy(
        voxels, stage, properties, manager, configuration, predictor.dataset_json
    )
    if stage is not None:
        masks = convert_labelmap_to_one_hot(resized[0], meaning.foreground_labels, image.dtype)
        image = np.vstack((image, masks))
    with mock.patch.object(torch, "half", torch.float32):  # the sums' type
        logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(image).float())
    labels, probabilities = to_labels(
        logits, manager, configuration, meaning, properties, return_probabilities=True
    )
    ties = find_ties(np.asarray(probabilities, np.float64), meaning.has_regions)
    found: list[np.ndarray] = []
    for name, values in (("ties", ties.astype(np.uint8)), ("labels", np.asarray(labels))):
        path = folder / f"nnunet_{name}.nii.gz"
        reader.write_seg(values, str(path), properties)
        found.insert(0, np.asanyarray(nibabel.load(path).dataobj))
    return tuple(found)


def find_ties(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Voxels whose label changes if a logit does by :data:`TIE`."""
    tiny = 1e-300
    if regions:
        odds = np.maximum(probabilities, tiny) / np.maximum(1 - probabilities, tiny)
        return (np.abs(np.log(odds)) < TIE).any(0)
    second, first = np.sort(probabilities, axis=0)[-2:]
    return np.log(first / np.maximum(second, tiny)) < TIE


class NnUnet:
    """Make nnU-Net's predictor around the reference model."""

    def __init__(self, model: Any, dataset: dict[str, Any]):
        self._model, self._dataset = model, dataset

    def labels(self, scan: Path, plans: dict[str, Any], folder: Path) -> tuple[np.ndarray, ...]:
        """Return labels and ties, as :func:`nnunet_labels` does."""
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(plans)
        predictor = nnUNetPredictor(
            use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.manual_initialization(
            self._model, manager, manager.get_configuration("3d_fullres"),
            [self._model.state_dict()], self._dataset, "nnUNetTrainer", None,
        )  # fmt: skip
        return nnunet_labels(predictor, [scan], folder)


class Sgmf:
    """Make this runtime's predictor around the same model, exported once."""

    def __init__(self, checkpoint: Any, folder: Path):
        from segmaformer.export.pipeline import export_package

        self._package = export_package(checkpoint, folder / "model.sgmf")

    def labels(self, scan: Path, plans: dict[str, Any], folder: Path) -> np.ndarray:
        from segmaformer.checkpoint.training.plans import preprocessing_of, resolve_configuration
        from segmaformer.checkpoint.training.readers import training_reader
        from segmaformer.runtime import Predictor

        manifest = self._package.manifest
        preprocessing = preprocessing_of(
            plans,
            resolve_configuration(plans, "3d_fullres")[1],
            manifest.preprocessing.channels,
            training_reader(plans),
        )
        manifest = dataclasses.replace(manifest, preprocessing=preprocessing)
        predictor = Predictor(dataclasses.replace(self._package, manifest=manifest), "onnxruntime")
        predictor.predict(scan).save(folder / "sgmf.nii.gz")
        return np.asanyarray(nibabel.load(folder / "sgmf.nii.gz").dataobj)


def compare(case: Case, voxels: np.ndarray, plans: Any, tools: Any, folder: Path) -> dict[str, Any]:
    own = copy.deepcopy(plans)
    own["image_reader_writer"] = case.reader
    own["configurations"]["3d_fullres"]["spacing"] = case.spacing
    scan = folder / "scan.nii.gz"
    case.write(voxels, scan)
    theirs, ties = tools[0].labels(scan, own, folder)
    ours = tools[1].labels(scan, own, folder)
    return {**dataclasses.asdict(case), **differences(ours, theirs, ties)}


def differences(ours: np.ndarray, theirs: np.ndarray, ties: np.ndarray) -> dict[str, Any]:
    """Count the voxels of each of nnU-Net's labels, and those that differ."""
    unlike = ours != theirs
    return {
        "labels": np.bincount(theirs.ravel(), minlength=3).tolist(),
        "unlike": int((unlike & (ties == 0)).sum()),
        "unlike_ties": int((unlike & (ties > 0)).sum()),
        "ties": int(ties.sum()),
    }


def complete(plans: dict[str, Any]) -> dict[str, Any]:
    """Add entries that nnU-Net has no default for and the reference model's plans lack."""
    resampling = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    missing = {
        "preprocessor_name": "DefaultPreprocessor",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": resampling,
    }
    configuration = {**missing, **plans["configurations"]["3d_fullres"]}
    intensities: dict[str, Any] = {"foreground_intensity_properties_per_channel": {"0": {}}}
    return {**plans, **intensities, "configurations": {"3d_fullres": configuration}}


def main() -> None:
    import torch

    from segmaformer.checkpoint import load_checkpoint

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scans", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--most", type=int, help="cases to run, spread over all")
    options = parser.parse_args()
    name = "reference_models/hippocampus/checkpoint_final.pth"
    path = Path(str(resources.files("segmaformer") / name))
    checkpoint = load_checkpoint(path)
    init = torch.load(path, weights_only=False)["init_args"]
    plans = complete(init["plans"])
    chosen = [*cases()]
    if options.most:
        chosen = [chosen[i * len(chosen) // options.most] for i in range(options.most)]
    scans = sorted(options.scans.glob("*.nii.gz"))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tools = NnUnet(checkpoint.model, init["dataset_json"]), Sgmf(checkpoint, folder)
        for index, case in enumerate(chosen):
            image = nibabel.as_closest_canonical(nibabel.load(scans[index % len(scans)]))
            voxels = image.get_fdata(dtype=np.float32)
            rows.append(compare(case, voxels, plans, tools, folder))
            print(index + 1, json.dumps(rows[-1]), flush=True)
    report(rows, options.out)


def report(rows: Sequence[dict[str, Any]], target: Path | None) -> None:
    """Print the sum of all cases, and write them with the software's versions to `target`."""
    unlike, ties = (sum(row[name] for row in rows) for name in ("unlike", "unlike_ties"))
    voxels = sum(sum(row["labels"]) for row in rows)
    print(
        f"{len(rows)} predictions, {voxels:,} voxels: {unlike} differ, and {ties} that are "
        f"ties within {TIE:g} of a logit"
    )
    if target is None:
        return
    names = ("nnunetv2", "torch", "onnxruntime", "SimpleITK", "nibabel", "numpy")
    document = {
        "software": {each: version(each) for each in names},
        "predictions": len(rows), "voxels": voxels, "unlike": unlike,
        "unlike_ties": ties, "tie": TIE,
    }  # fmt: skip
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    head = json.dumps(document, indent=2)[:-2]
    target.write_text(f'{head},\n  "cases": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
