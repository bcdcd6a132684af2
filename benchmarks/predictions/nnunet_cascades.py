"""Whole predictions of nnU-Net's cascade against nnU-Net v2's predictor.

    python benchmarks/predictions/nnunet_cascades.py DATA --out nnunet_cascades.json

Needs an environment with both ``segmaformer[export]`` and ``nnunetv2``. DATA is the folder of real
scans that the tests read (``SGMF_TEST_DATA``). Each case is two trainings as nnU-Net leaves them on
disk, ``3d_lowres`` and ``3d_cascade_fullres``, of nnU-Net's own networks with random weights.
nnU-Net writes the first label map and reads it for the second network; here both are one package.
Sums and ties are those of ``nnunet_predictions.py``.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nnunet_networks import (
    ALL,
    NIBABEL,
    NIBABEL_TURNED,
    ONE_MM,
    SCANS,
    SITK,
    SITK_TURNED,
    Case,
    dataset_json,
    nnunet_predictor,
    packaged_labels,
    plans_json,
    run_command,
)
from nnunet_predictions import Case as Written
from nnunet_predictions import differences, nnunet_labels
from turns import measured

FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"


@dataclass(frozen=True)
class Cascade:
    """The second stage, what the first has of its own, and how the scan's file is written.

    `header` is one of ``nnunet_predictions.HEADERS``; None takes the scan as it is.
    """

    second: Case
    tile: tuple[int, int, int]
    spacing: tuple[float, float, float]
    header: str | None = None


CASCADES = (
    Cascade(Case("nnunet-plain", "hippocampus", SITK, (32, 40, 32), ONE_MM, mirror_axes=ALL),
            (16, 24, 16), (2.0, 2.0, 2.0)),
    Cascade(Case("nnunet-plain", "hippocampus", NIBABEL, (32, 32, 32), (0.8, 1.2, 0.9)),
            (16, 24, 16), (1.7, 2.1, 1.9), "stale sform beside qform"),
    Cascade(Case("nnunet-resenc", "hippocampus", SITK_TURNED, (32, 40, 32), ONE_MM, 2),
            (16, 16, 16), (2.4, 2.0, 2.2), "stale pixdim"),
    Cascade(Case("nnunet-plain", "spleen", SITK, (16, 64, 64), (5.0, 1.2, 1.2), mirror_axes=(1, 2)),
            (16, 32, 32), (7.0, 3.1, 3.1)),
    Cascade(Case("nnunet-plain", "spleen", NIBABEL, (64, 16, 64), (1.5, 4.0, 1.5),
                 transpose=(1, 0, 2), old_plans=True),
            (32, 16, 32), (3.3, 6.0, 3.3)),
    Cascade(Case("nnunet-resenc", "brain", SITK, (48, 48, 48), (2.0, 2.0, 2.0), regions=True),
            (24, 32, 24), (4.0, 4.0, 4.0)),
    Cascade(Case("nnunet-resenc", "thorax", NIBABEL_TURNED, (32, 48, 48), (4.0, 3.5, 3.5)),
            (16, 32, 32), (8.0, 7.0, 7.0)),
)  # fmt: skip


def cascade_plans(case: Cascade) -> dict[str, Any]:
    """Write down plans of both stages."""
    plans = plans_json(case.second)
    low = plans_json(dataclasses.replace(case.second, tile=case.tile, spacing=case.spacing))
    (coarse,), (fine,) = low["configurations"].values(), plans["configurations"].values()
    return {
        **plans,
        "configurations": {
            FIRST: {**coarse, "data_identifier": f"nnUNetPlans_{FIRST}", "next_stage": SECOND},
            case.second.configuration: fine,
            SECOND: {"inherits_from": case.second.configuration, "previous_stage": FIRST},
        },
    }


def write_stage(case: Cascade, configuration: str, folder: Path) -> Path:
    """Write the trained-model folder of one stage, with random weights of nnU-Net's network."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, dataset = cascade_plans(case), dataset_json(case.second)
    training = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    training.mkdir()
    (training / "plans.json").write_text(json.dumps(plans))
    (training / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(plans)
    planned = manager.get_configuration(configuration)
    channels = determine_num_input_channels(manager, planned, dataset)
    for fold in range(case.second.folds):
        torch.manual_seed(10 * fold + len(configuration))
        network = nnUNetTrainer.build_network_architecture(
            manager, planned, channels, 3, enable_deep_supervision=False
        )
        checkpoint = {
            "network_weights": network.state_dict(),
            "init_args": {"plans": plans, "dataset_json": dataset, "configuration": configuration},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": case.second.mirror_axes or None,
        }
        (training / f"fold_{fold}").mkdir()
        torch.save(checkpoint, training / f"fold_{fold}" / "checkpoint_final.pth")
    return training


def nnunet_cascade(
    case: Case, first: Path, second: Path, scans: list[Path], folder: Path
) -> tuple[np.ndarray, ...]:
    """Segment a scan with both stages; labels of the first, then labels and ties."""
    coarse, _ = nnunet_labels(nnunet_predictor(case, first), scans, folder)
    # The label map as it lies in nnU-Net's own order, before the next one takes its place.
    previous = (folder / "nnunet_labels.nii.gz").rename(folder / "previous.nii.gz")
    return coarse, *nnunet_labels(nnunet_predictor(case, second), scans, folder, previous)


def export(case: Case, training: Path, folder: Path) -> Path:
    """Export a cascade to a package."""
    from segmaformer.checkpoint import load_folds, with_previous_stage
    from segmaformer.export.pipeline import export_package

    folds = [str(fold) for fold in range(case.folds)]
    checkpoint = with_previous_stage(load_folds(training, folds=folds), folds=folds)
    return export_package(checkpoint, folder / "model.sgmf").path


def written_scans(case: Cascade, data: Path, folder: Path) -> list[Path]:
    """Return the scan's files; where a header is asked for, rewritten with it."""
    scans = [data / name for name in SCANS[case.second.scan]]
    if case.header is None:
        return scans
    image = nibabel.as_closest_canonical(nibabel.load(scans[0]))
    path = folder / "scan.nii.gz"
    Written(case.second.reader, "LPS", case.header).write(image.get_fdata(dtype=np.float32), path)
    return [path]


def compare(case: Cascade, data: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = written_scans(case, data, folder)
        first, second = (write_stage(case, each, folder) for each in (FIRST, SECOND))
        (coarse, theirs, ties), nnunet_cost = measured(
            nnunet_cascade, case.second, first, second, scans, folder
        )
        package = export(case.second, second, folder)
        ours, cost = measured(packaged_labels, case.second, package, scans, folder)
    return {
        **dataclasses.asdict(case),
        "first": np.bincount(coarse.ravel(), minlength=3).tolist(),
        **differences(ours, theirs, ties),
        "cost": {"nnunetv2": nnunet_cost, "sgmf": cost},
    }


if __name__ == "__main__":
    run_command(__doc__, CASCADES, compare)
