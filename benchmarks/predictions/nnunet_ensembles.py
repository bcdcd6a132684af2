"""Whole predictions of several configurations against nnU-Net v2's ensemble of them.

    python benchmarks/predictions/nnunet_ensembles.py DATA --out nnunet_ensembles.json

Needs an environment with both ``segmaformer[export]`` and ``nnunetv2``. DATA is the folder of real
scans that the tests read (``SGMF_TEST_DATA``). Each case is two trainings of one data set with
plans of their own, nnU-Net's networks with random weights. nnU-Net writes the probabilities of
each on the scan's grid, averages the files and takes the largest. A voxel where the two largest
means are closer than `TIE` of a logit is a tie, as in ``nnunet_predictions.py``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
from nnunet_networks import (
    ALL,
    NIBABEL,
    ONE_MM,
    SCANS,
    SITK,
    TWO_MM,
    Case,
    export,
    nnunet_predictor,
    run_command,
    write_training,
)
from nnunet_predictions import Case as Written
from nnunet_predictions import differences, find_ties
from turns import measured


@dataclass(frozen=True)
class Pair:
    """Two trainings, and how the scan's file is written; see ``nnunet_cascades.py``."""

    first: Case
    second: Case
    header: str | None = None


PAIRS = (
    Pair(Case("nnunet-plain", "hippocampus", NIBABEL, (32, 40, 32), ONE_MM, mirror_axes=ALL),
         Case("nnunet-resenc", "hippocampus", NIBABEL, (24, 32, 24), (1.5, 1.3, 1.4)),
         "stale sform beside qform"),
    Pair(Case("nnunet-plain", "spleen", SITK, (16, 64, 64), (5.0, 1.2, 1.2)),
         Case("nnunet-plain", "spleen", SITK, (16, 48, 48), (7.0, 2.4, 2.4), 2)),
    Pair(Case("nnunet-plain", "brain", SITK, (48, 48, 48), TWO_MM, regions=True),
         Case("nnunet-resenc", "brain", SITK, (32, 32, 32), (3.0, 3.0, 3.0), regions=True)),
)  # fmt: skip


def nnunet_probabilities(case: Case, training: Path, scans: list[Path], name: Path) -> None:
    """Write probabilities and properties as nnU-Net does on request; sums in float32."""
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits

    predictor = nnunet_predictor(case, training)
    manager, configuration = predictor.plans_manager, predictor.configuration_manager
    image, _, properties = configuration.preprocessor_class(verbose=False).run_case(
        [str(scan) for scan in scans], None, manager, configuration, predictor.dataset_json
    )
    with mock.patch.object(torch, "half", torch.float32):  # the sums' type
        logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(image).float())
    export_prediction_from_logits(
        logits, properties, configuration, manager, predictor.dataset_json, str(name), True
    )


def nnunet_ensemble(
    pair: Pair, trainings: list[Path], scans: list[Path], folder: Path
) -> tuple[Any, ...]:
    """Segment a scan with both trainings and average them; labels and ties."""
    names = [folder / "first_probabilities", folder / "second_probabilities"]
    for case, training, file in zip((pair.first, pair.second), trainings, names, strict=True):
        nnunet_probabilities(case, training, scans, file)
    return nnunet_mean(pair.first, trainings[0], names, folder)


def nnunet_mean(case: Case, training: Path, names: list[Path], folder: Path) -> tuple[Any, ...]:
    """Average with nnU-Net's own function; labels and ties as they are stored."""
    from nnunetv2.ensembling.ensemble import average_probabilities, merge_files
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(str(training / "plans.json"))
    dataset = json.loads((training / "dataset.json").read_text())
    meaning, writer = manager.get_label_manager(dataset), manager.image_reader_writer_class()
    files = [f"{name}.npz" for name in names]
    merge_files(files, str(folder / "mean"), ".nii.gz", writer, meaning)
    labels = np.asanyarray(nibabel.load(folder / "mean.nii.gz").dataobj)
    ties = find_ties(np.asarray(average_probabilities(files), np.float64), case.regions)
    return labels, ties.transpose(2, 1, 0)


def sgmf_labels(pair: Pair, packages: list[Path], scans: list[Path], folder: Path) -> np.ndarray:
    """Segment the scan by the command."""
    command = [str(Path(sys.executable).with_name("sgmf")), "infer", *map(str, scans)]
    command += ["--backend", "onnxruntime", "-o", str(folder / "sgmf.nii.gz")]
    for package in packages:
        command += ["-m", str(package)]
    if pair.first.mirror_axes:
        command.append("--tta")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    return np.asanyarray(nibabel.load(folder / "sgmf.nii.gz").dataobj)


def compare(pair: Pair, data: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = [data / each for each in SCANS[pair.first.scan]]
        if pair.header is not None:
            image = nibabel.as_closest_canonical(nibabel.load(scans[0]))
            scans = [folder / "scan.nii.gz"]
            written = Written(pair.first.reader, "LPS", pair.header)
            written.write(image.get_fdata(dtype=np.float32), scans[0])
        trainings = [folder / "first", folder / "second"]
        packages = []
        for case, training in zip((pair.first, pair.second), trainings, strict=True):
            training.mkdir()
            write_training(case, training)
            packages.append(export(case, training, training))
        (theirs, ties), nnunet_cost = measured(nnunet_ensemble, pair, trainings, scans, folder)
        ours, cost = measured(sgmf_labels, pair, packages, scans, folder)
    costs = {"cost": {"nnunetv2": nnunet_cost, "sgmf": cost}}
    return {**dataclasses.asdict(pair), **differences(ours, theirs, ties), **costs}


if __name__ == "__main__":
    run_command(__doc__, PAIRS, compare)
