"""Whole predictions of nnU-Net's own networks and U-Mamba against nnU-Net v2's predictor.

    python benchmarks/predictions/nnunet_networks.py DATA --out nnunet_networks.json

Needs an environment with both ``segmaformer[export]`` and ``nnunetv2``. DATA is the folder of real
scans that the tests read (``SGMF_TEST_DATA``). Each case is a training as nnU-Net leaves it on
disk: plans.json, dataset.json and a checkpoint of every fold, and postprocessing.json if it has
that. nnU-Net builds its own networks from the plans; U-Mamba's, which it does not have, are the
models of this project in its predictor. Its sums, and what counts as a tie, are those of
``nnunet_predictions.py``. Weights are random.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import nibabel
import numpy as np
from checkpoints import CT_INTENSITIES
from nnunet_predictions import STALE, differences, nnunet_labels, report
from turns import measured

SCANS = {
    "hippocampus": ("msd_hippocampus/imagesTr/hippocampus_001.nii.gz",),
    "spleen": ("msd_spleen_crop/sub-spleen2_ct.nii.gz",),
    "thorax": ("totalsegmentator/example_ct_sm.nii.gz",),
    "brain": tuple(f"ms_4ch/patient19/{name}.nii.gz" for name in ("FLAIR", "T1", "T1POST", "T2")),
}
CT = ("spleen", "thorax")
TRAINERS = {"umamba-bot": "nnUNetTrainerUMambaBot", "umamba-enc": "nnUNetTrainerUMambaEnc"}
WIDTHS = [8, 16, 32, 48]
SPLINES, TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
WITHOUT = "no_resampling_hack"


@dataclass(frozen=True)
class Case:
    """A training and a scan; tile and spacing (mm) along the axes that the network sees.

    Attributes
    ----------
    stale
        Whether the header states other voxel edges beside its affine.
    resampling, separate
        nnU-Net's function for scans and logits, and its ``force_separate_z``.
    postprocessing
        Labels, and unions of labels, whose largest component stays.
    """

    network: str
    scan: str
    reader: str
    tile: tuple[int, ...]
    spacing: tuple[float, ...]
    folds: int = 1
    regions: bool = False
    mirror_axes: tuple[int, ...] = ()
    transpose: tuple[int, int, int] = (0, 1, 2)
    old_plans: bool = False
    stale: bool = False
    resampling: str = SPLINES
    separate: bool | None = None
    postprocessing: tuple[int | tuple[int, ...], ...] = ()

    @property
    def axes(self) -> int:
        return len(self.tile)

    @property
    def configuration(self) -> str:
        return "2d" if self.axes == 2 else "3d_fullres"

    @property
    def channels(self) -> int:
        return len(SCANS[self.scan])


SITK, SITK_TURNED = "SimpleITKIO", "SimpleITKIOWithReorient"
NIBABEL, NIBABEL_TURNED = "NibabelIO", "NibabelIOWithReorient"
ONE_MM, TWO_MM = (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)
ALL = (0, 1, 2)

CASES = (
    Case("nnunet-plain", "hippocampus", SITK, (40, 56, 40), ONE_MM),
    Case("nnunet-plain", "hippocampus", NIBABEL, (24, 32, 40), (0.8, 1.2, 0.9), mirror_axes=ALL),
    Case("nnunet-plain", "hippocampus", SITK_TURNED, (32, 32, 32), ONE_MM, 5, old_plans=True),
    Case("nnunet-plain", "spleen", SITK, (16, 64, 64), (5.0, 1.2, 1.2), mirror_axes=(1, 2)),
    Case("nnunet-plain", "spleen", NIBABEL, (64, 16, 64), (1.5, 4.0, 1.5), 5, transpose=(1, 0, 2)),
    Case("nnunet-plain", "brain", SITK, (48, 48, 48), TWO_MM, regions=True),
    Case("nnunet-plain", "thorax", NIBABEL_TURNED, (32, 48, 48), (4.0, 3.5, 3.5), old_plans=True),
    Case("nnunet-resenc", "hippocampus", SITK, (32, 40, 32), (1.1, 0.9, 1.0), 5, mirror_axes=ALL),
    Case("nnunet-resenc", "hippocampus", NIBABEL_TURNED, (32, 32, 32), ONE_MM, regions=True),
    Case("nnunet-resenc", "spleen", SITK_TURNED, (16, 48, 64), (5.0, 1.0, 1.0), old_plans=True),
    Case("nnunet-resenc", "brain", NIBABEL, (40, 48, 40), (2.5, 2.0, 2.2), mirror_axes=(2,)),
    Case("nnunet-resenc", "brain", SITK, (48, 48, 48), TWO_MM, 2, regions=True, mirror_axes=(0,)),
    Case("nnunet-resenc", "thorax", SITK, (32, 48, 48), (3.0, 4.0, 4.0), transpose=(2, 0, 1)),
    Case("umamba-bot", "hippocampus", SITK, (40, 56, 40), ONE_MM, mirror_axes=ALL),
    Case("umamba-bot", "spleen", NIBABEL, (16, 64, 64), (5.0, 1.2, 1.2), old_plans=True),
    Case("umamba-bot", "brain", SITK_TURNED, (48, 48, 48), TWO_MM, regions=True),
    Case("umamba-bot", "thorax", SITK, (32, 48, 48), (4.0, 3.5, 3.5), 5),
    Case("umamba-enc", "hippocampus", NIBABEL_TURNED, (32, 32, 32), ONE_MM, mirror_axes=(0, 2)),
    Case("umamba-enc", "spleen", SITK, (16, 64, 64), (5.0, 1.2, 1.2), 2, transpose=(0, 2, 1)),
    Case("umamba-enc", "brain", SITK, (48, 48, 48), TWO_MM, regions=True, old_plans=True),
    # 2-D networks
    Case("nnunet-plain", "hippocampus", SITK, (40, 32), (1.0, 1.0), mirror_axes=(0, 1)),
    Case("nnunet-plain", "spleen", NIBABEL, (64, 48), (1.2, 1.2), 5, old_plans=True, stale=True),
    Case("nnunet-resenc", "thorax", SITK_TURNED, (48, 64), (3.5, 4.0), transpose=(1, 0, 2)),
    Case("umamba-bot", "spleen", SITK, (64, 64), (1.2, 1.5), 2, mirror_axes=(0, 1)),
    Case("umamba-enc", "hippocampus", NIBABEL_TURNED, (40, 32), (0.8, 1.2), old_plans=True),
    # postprocessing
    Case("nnunet-plain", "hippocampus", SITK, (32, 32, 32), ONE_MM, postprocessing=((1, 2), 2)),
    Case(
        *("nnunet-resenc", "spleen", NIBABEL, (16, 64, 64), (5.0, 1.2, 1.2)),
        stale=True,
        postprocessing=(1, 2),
    ),
    # resampling by PyTorch, and none
    Case("nnunet-resenc", "hippocampus", SITK, (32, 40, 32), (1.1, 0.9, 1.3), resampling=TORCH),
    Case(
        *("nnunet-plain", "spleen", SITK, (16, 64, 64), (4.0, 1.2, 1.2)),
        stale=True,
        resampling=TORCH,
    ),
    Case(
        *("nnunet-plain", "thorax", SITK, (40, 48, 48), (5.0, 3.5, 3.5)),
        resampling=TORCH,
        separate=True,
    ),
    Case("nnunet-plain", "spleen", SITK, (16, 64, 64), (3.0, 1.0, 1.0), resampling=WITHOUT),
)


def dataset_json(case: Case) -> dict[str, Any]:
    """Describe channels and labels as nnU-Net's dataset.json does."""
    labels: dict[str, Any] = {"background": 0, "anterior": 1, "posterior": 2}
    order = {}
    if case.regions:
        labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
        order = {"regions_class_order": [1, 2, 3]}
    kind = "CT" if case.scan in CT else "MR"
    names = {str(index): kind for index in range(case.channels)}
    return {"channel_names": names, "labels": labels, "file_ending": ".nii.gz", **order}


def plans_json(case: Case) -> dict[str, Any]:
    """Write down plans in the form of either format."""
    is_ct, count = case.scan in CT, case.channels
    separate: dict[str, Any] = {"is_seg": False, "force_separate_z": case.separate}
    resampling: dict[str, Any] = {
        SPLINES: {**separate, "order": 3, "order_z": 0},
        TORCH: {**separate, "memefficient_seg_resampling": False},
        WITHOUT: {},
    }[case.resampling]
    order = {"order": 1} if case.resampling == SPLINES else {}
    shape = case.resampling
    configuration = {
        "data_identifier": f"nnUNetPlans_{case.configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(case.tile),
        "spacing": list(case.spacing),
        "normalization_schemes": ["CTNormalization" if is_ct else "ZScoreNormalization"] * count,
        "use_mask_for_norm": [case.scan == "brain"] * count,
        "resampling_fn_data": shape,
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": shape,
        "resampling_fn_seg_kwargs": resampling and {**resampling, **order, "is_seg": True},
        "resampling_fn_probabilities": shape,
        "resampling_fn_probabilities_kwargs": {**resampling, **order},
        **(_old_network if case.old_plans else _network)(case),
    }
    backward = [case.transpose.index(axis) for axis in range(3)]
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "transpose_forward": list(case.transpose),
        "transpose_backward": backward,
        "image_reader_writer": case.reader,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(index): CT_INTENSITIES for index in range(count)
        },
        "configurations": {case.configuration: configuration},
    }


def _strides(case: Case) -> list[list[int]]:
    """Halve each axis three times, but the coarse ones of a slab twice."""
    first = [1 if size < 24 else 2 for size in case.tile]
    return [[1] * case.axes, first, [2] * case.axes, [2] * case.axes]


def _kernels(case: Case) -> list[list[int]]:
    return [[1 if size < 24 else 3 for size in case.tile], *[[3] * case.axes] * 3]


def _is_residual(case: Case) -> bool:
    return case.network == "nnunet-resenc"


def _blocks(case: Case) -> tuple[list[int], list[int]]:
    return ([1, 3, 2, 2], [1, 1, 1]) if _is_residual(case) else ([2, 2, 2, 2], [2, 2, 2])


def _network(case: Case) -> dict[str, Any]:
    encoder, decoder = _blocks(case)
    kind, key = ("unet.PlainConvUNet", "n_conv_per_stage")
    if _is_residual(case):
        kind, key = ("unet.ResidualEncoderUNet", "n_blocks_per_stage")
    arguments = {
        "n_stages": len(WIDTHS),
        "features_per_stage": WIDTHS,
        "conv_op": f"torch.nn.modules.conv.Conv{case.axes}d",
        "kernel_sizes": _kernels(case),
        "strides": _strides(case),
        key: encoder,
        "n_conv_per_stage_decoder": decoder,
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{case.axes}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.{kind}",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }


def _old_network(case: Case) -> dict[str, Any]:
    """Describe the network as plans before nnU-Net 2.3 do."""
    encoder, decoder = _blocks(case)
    return {
        "UNet_class_name": "ResidualEncoderUNet" if _is_residual(case) else "PlainConvUNet",
        "UNet_base_num_features": WIDTHS[0],
        "unet_max_num_features": WIDTHS[-1],
        "conv_kernel_sizes": _kernels(case),
        "pool_op_kernel_sizes": _strides(case),
        "num_pool_per_axis": [3] * case.axes,
        "n_conv_per_stage_encoder": encoder,
        "n_conv_per_stage_decoder": decoder,
    }


def make_network(case: Case, seed: int) -> Any:
    """Build the network of one fold: nnU-Net's own, or U-Mamba of this project."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from segmaformer.models import create_model
    from segmaformer.models.planned_unets.umamba import thinned

    torch.manual_seed(seed)
    if case.network not in TRAINERS:
        manager = PlansManager(plans_json(case))
        configuration = manager.get_configuration(case.configuration)
        return nnUNetTrainer.build_network_architecture(
            manager, configuration, case.channels, 3, enable_deep_supervision=False
        ).eval()
    encoder, decoder = thinned(*_blocks(case))
    flat = [1] * (3 - case.axes)  # depth of a 2-D network
    tile: dict[str, Any] = (
        {"input_size": [*flat, *case.tile]} if case.network == "umamba-enc" else {}
    )
    network = create_model(
        case.network,
        input_channels=case.channels,
        num_classes=3,
        features_per_stage=WIDTHS,
        kernel_sizes=[[*flat, *kernel] for kernel in _kernels(case)],
        strides=[[*flat, *stride] for stride in _strides(case)],
        n_conv_per_stage_encoder=encoder,
        n_conv_per_stage_decoder=decoder,
        planar=bool(flat),
        **tile,
    ).eval()
    return of_planes(network) if flat else network


def of_planes(network: Any) -> Any:
    """Make a 2-D network of one that takes volumes of one slice, with 2-D weights."""
    import torch

    class OfPlanes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, planes: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(planes.unsqueeze(2)).squeeze(2)
            return logits

    return OfPlanes().eval()


def stored_weights(network: Any) -> dict[str, Any]:
    """Return weights as a training would have stored them."""
    inner = getattr(network, "network", None)
    if inner is None:
        return dict(network.state_dict())
    return {
        name: value.squeeze(2) if value.ndim == 5 else value
        for name, value in inner.state_dict().items()
    }


def write_training(case: Case, folder: Path) -> None:
    """Write nnU-Net's trained-model folder."""
    import torch

    documents = {"plans": plans_json(case), "dataset_json": dataset_json(case)}
    (folder / "plans.json").write_text(json.dumps(documents["plans"]))
    (folder / "dataset.json").write_text(json.dumps(documents["dataset_json"]))
    if case.postprocessing:
        steps = postprocessing(case)
        names = [function.__name__ for function in steps[0]]
        document = {"postprocessing_fns": names, "postprocessing_kwargs": steps[1]}
        (folder / "postprocessing.json").write_text(json.dumps(document))
    networks = [make_network(case, seed) for seed in range(case.folds)]
    for fold, network in enumerate(networks):
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": stored_weights(network),
            "init_args": {**documents, "configuration": case.configuration, "fold": fold},
            "trainer_name": TRAINERS.get(case.network, "nnUNetTrainer"),
            "inference_allowed_mirroring_axes": case.mirror_axes or None,
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")


def postprocessing(case: Case) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return nnU-Net's functions and their arguments."""
    from nnunetv2.postprocessing.remove_connected_components import (
        remove_all_but_largest_component_from_segmentation as function,
    )

    steps = case.postprocessing
    return [function] * len(steps), [{"labels_or_regions": labels} for labels in steps]


def nnunet_predictor(case: Case, training: Path) -> Any:
    """Open a training in nnU-Net's predictor."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    predictor = nnUNetPredictor(
        use_mirroring=bool(case.mirror_axes), device=torch.device("cpu"), allow_tqdm=False
    )
    if case.network not in TRAINERS:
        predictor.initialize_from_trained_model_folder(str(training), tuple(range(case.folds)))
        return predictor
    networks = [make_network(case, seed) for seed in range(case.folds)]
    manager = PlansManager(plans_json(case))
    weights = [copy.deepcopy(network.state_dict()) for network in networks]
    predictor.manual_initialization(
        networks[0], manager, manager.get_configuration(case.configuration), weights,
        dataset_json(case), "nnUNetTrainer", case.mirror_axes or None,
    )  # fmt: skip
    return predictor


def nnunet_case(
    case: Case, training: Path, scans: list[Path], folder: Path
) -> tuple[np.ndarray, ...]:
    """Segment a scan with nnU-Net; labels and ties."""
    labels, ties = nnunet_labels(nnunet_predictor(case, training), scans, folder)
    if case.postprocessing:
        from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing

        labels = apply_postprocessing(labels, *postprocessing(case))
    return labels, ties


def export(case: Case, training: Path, folder: Path) -> Path:
    """Export a training to a package, as the command does."""
    from segmaformer.checkpoint import load_folds
    from segmaformer.checkpoint.training.postprocessing import (
        find_postprocessing,
        read_postprocessing,
    )
    from segmaformer.export.pipeline import export_package

    folds = [str(fold) for fold in range(case.folds)]
    checkpoint = load_folds(training, folds=folds)
    if (found := find_postprocessing(training, folds)) is not None:
        steps = read_postprocessing(found, checkpoint.output)
        checkpoint = dataclasses.replace(checkpoint, postprocessing=steps)
    return export_package(checkpoint, folder / "model.sgmf").path


def packaged_labels(case: Case, package: Path, scans: list[Path], folder: Path) -> np.ndarray:
    """Segment a scan with a package."""
    from segmaformer.runtime import Package, Predictor

    opened = Package.open(package)
    predictor = Predictor(opened, "onnxruntime", tta=bool(case.mirror_axes))
    predictor.predict(scans).save(folder / "sgmf.nii.gz")
    return np.asanyarray(nibabel.load(folder / "sgmf.nii.gz").dataobj)


def with_stale_header(scan: Path, folder: Path) -> Path:
    """Copy a scan with other voxel edges in its pixdim, beside the sform that holds."""
    image = nibabel.load(scan)
    header = image.header.copy()
    header.set_sform(image.affine, code=1)
    header.set_qform(image.affine, code=0)
    header["pixdim"][1:4] *= STALE
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, header), folder / "s.nii")
    return folder / "s.nii"


def compare(case: Case, data: Path) -> dict[str, Any]:
    scans = [data / name for name in SCANS[case.scan]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if case.stale:
            scans = [with_stale_header(scan, folder) for scan in scans]
        training = folder / f"nnUNetTrainer__nnUNetPlans__{case.configuration}"
        training.mkdir()
        write_training(case, training)
        (theirs, ties), nnunet_cost = measured(nnunet_case, case, training, scans, folder)
        package = export(case, training, folder)
        ours, cost = measured(packaged_labels, case, package, scans, folder)
    costs = {"cost": {"nnunetv2": nnunet_cost, "sgmf": cost}}
    return {**dataclasses.asdict(case), **differences(ours, theirs, ties), **costs}


def run_command(
    description: str | None, cases: Sequence[Any], compare: Callable[[Any, Path], dict[str, Any]]
) -> None:
    """Compare the cases that the command line asks for, and report them."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases, from 1")
    options = parser.parse_args()
    rows = []
    for number in options.only or range(1, len(cases) + 1):
        rows.append(compare(cases[number - 1], options.data))
        print(number, json.dumps(rows[-1]), flush=True)
    report(rows, options.out)


if __name__ == "__main__":
    run_command(__doc__, CASES, compare)
