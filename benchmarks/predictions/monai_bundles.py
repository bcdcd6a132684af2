"""Whole predictions of MONAI bundles against MONAI's own transforms and inferer.

    python benchmarks/predictions/monai_bundles.py DATA --out monai_bundles.json

Needs an environment with ``segmaformer[monai]``. DATA is a folder with the scans that the table
below names. Four bundles have the configuration of a published one, at a smaller window and width;
the others cover the remaining networks, transforms and orders of them. Weights are random, with
outputs centred so that every label occurs. MONAI reads the configuration with its own parser and
runs it in PyTorch; here ``sgmf export`` reads the same folder and ONNX Runtime runs the package.
A voxel whose decision turns if an output does by `TIE` is a tie: PyTorch and ONNX Runtime round
differently there.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nibabel
import numpy as np
from turns import measured

TIE = 1e-4
CT = "msd_spleen_crop/sub-spleen2_ct.nii.gz"
IMAGE, PRED = {"keys": "image"}, {"keys": "pred"}
LOAD = ({"_target_": "LoadImaged", **IMAGE}, {"_target_": "EnsureChannelFirstd", **IMAGE})
RAS = {"_target_": "Orientationd", "axcodes": "RAS", **IMAGE}
TYPED = {"_target_": "EnsureTyped", **IMAGE}
SOFTMAX = {"_target_": "Activationsd", "softmax": True, **PRED}
SIGMOID = {"_target_": "Activationsd", "sigmoid": True, **PRED}
ARGMAX = {"_target_": "AsDiscreted", "argmax": True, **PRED}
THRESHOLD = {"_target_": "AsDiscreted", "threshold": 0.5, **PRED}
NONZERO = {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True, **IMAGE}
ZSCORE = {"_target_": "NormalizeIntensityd", **IMAGE}
POSITIVE = {"_target_": "CropForegroundd", "source_key": "image", **IMAGE}


def spacing(*edges: float) -> dict[str, Any]:
    return {"_target_": "Spacingd", "pixdim": [*edges], "mode": "bilinear", **IMAGE}


def window(low: float, high: float, bottom: float = 0, top: float = 1) -> dict[str, Any]:
    bounds = {"a_min": low, "a_max": high, "b_min": bottom, "b_max": top, "clip": True}
    return {"_target_": "ScaleIntensityRanged", **bounds, **IMAGE}


def invert(*, nearest: bool) -> dict[str, Any]:
    ways = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": nearest}
    return {"_target_": "Invertd", **ways, **PRED}


def resize(*shape: int, **arguments: Any) -> dict[str, Any]:
    return {"_target_": "Resized", "spatial_size": [*shape], **arguments, **IMAGE}


def keep_largest(**arguments: Any) -> dict[str, Any]:
    return {"_target_": "KeepLargestConnectedComponentd", **arguments, **PRED}


LINEAR, NEAREST = invert(nearest=False), invert(nearest=True)
PROBABILITIES = (SOFTMAX, LINEAR, ARGMAX)


@dataclass(frozen=True)
class Case:
    """A bundle and the scan that it segments."""

    name: str
    scan: Sequence[str]
    network: dict[str, Any]
    channels: tuple[int, int]
    preprocessing: Sequence[dict[str, Any]]
    postprocessing: Sequence[dict[str, Any]]
    roi: Sequence[int]
    inferer: dict[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()
    modality: str = "MR"
    turn: Sequence[float] = ()
    """Degrees about x, y and z by which the scan's header is turned."""

    def configuration(self) -> dict[str, Any]:
        """Return the content of ``inference.json``."""
        channels = dict(zip(("in_channels", "out_channels"), self.channels, strict=True))
        inferer = {
            "_target_": "SlidingWindowInferer", "roi_size": [*self.roi], "overlap": 0.5,
            "sw_batch_size": 1, **self.inferer,
        } if self.roi else {"_target_": "SimpleInferer"}  # fmt: skip
        return {
            "device": "$torch.device('cpu')",
            "network_def": {"spatial_dims": 3, **channels, **self.network},
            "network": "$@network_def.to(@device)",
            "preprocessing": {"_target_": "Compose", "transforms": [*self.preprocessing]},
            "inferer": inferer,
            "postprocessing": {"_target_": "Compose", "transforms": [*self.postprocessing]},
        }

    def metadata(self) -> dict[str, Any]:
        """Return the content of ``metadata.json``."""
        names = {str(index): name for index, name in enumerate(self.names)}
        inputs = {"modality": self.modality, "num_channels": self.channels[0]}
        outputs = {"num_channels": self.channels[1], "channel_def": names}
        return {
            "version": "1.0",
            "network_data_format": {"inputs": {"image": inputs}, "outputs": {"pred": outputs}},
        }


def unet(*channels: int, units: int = 2, norm: str = "batch") -> dict[str, Any]:
    strides = [2] * (len(channels) - 1)
    return {
        "_target_": "UNet", "channels": [*channels], "strides": strides, "num_res_units": units,
        "norm": norm,
    }  # fmt: skip


HIPPOCAMPUS = "msd_hippocampus/imagesTr/hippocampus_001.nii.gz"
MS = [f"ms_4ch/patient19/{name}.nii.gz" for name in ("FLAIR", "T1", "T1POST", "T2")]
BODY = "totalsegmentator/example_ct_sm.nii.gz"
DIFFUSION = "nibabel_monai/example4d.nii.gz"
THICK = "dicom2nifti/generic/anatomical/002_non_isotropic_ground_truth.nii.gz"
CORNERS = {"mode": "trilinear", "align_corners": True}
CASES = (
    Case(
        "spleen_ct_segmentation", [CT], unet(8, 16, 32, 64, 128), (1, 2),
        (*LOAD, RAS, spacing(1.5, 1.5, 2.0), window(-57, 164), TYPED), PROBABILITIES,
        (96, 96, 48), modality="CT",
    ),
    Case(
        "swin_unetr_btcv_segmentation", [BODY],
        {"_target_": "SwinUNETR", "feature_size": 12, "use_checkpoint": True}, (1, 14),
        (*LOAD, RAS, spacing(1.5, 1.5, 2.0), window(-175, 250), TYPED), PROBABILITIES,
        (64, 64, 64), modality="CT",
    ),
    Case(
        "brats_mri_segmentation", MS,
        {"_target_": "SegResNet", "init_filters": 8, "blocks_down": [1, 2, 2, 4],
         "blocks_up": [1, 1, 1], "dropout_prob": 0.2}, (4, 3),
        (LOAD[0], NONZERO), (SIGMOID, LINEAR, THRESHOLD), (128, 128, 96), {"overlap": 0.25},
        names=("Tumor core", "Whole tumor", "Enhancing tumor"),
    ),
    Case(
        "prostate_mri_anatomy", [HIPPOCAMPUS], unet(8, 16, 32, 64, units=4), (1, 3),
        (*LOAD, RAS, spacing(0.5, 0.5, 0.5),
         {"_target_": "ScaleIntensityd", "minv": 0, "maxv": 1, **IMAGE}, ZSCORE, TYPED),
        PROBABILITIES, (64, 64, 64),
    ),
    Case(
        "DynUNet, normalised first", [HIPPOCAMPUS],
        {"_target_": "DynUNet", "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
         "upsample_kernel_size": [2, 2], "filters": [8, 16, 32]}, (1, 3),
        (*LOAD, {**RAS, "axcodes": "LPS"}, ZSCORE, spacing(0.8, 0.8, 1.1)), PROBABILITIES,
        (32, 32, 32), {"mode": "gaussian"},
    ),
    Case(
        "SegResNetDS, labels back to the nearest", [CT],
        {"_target_": "SegResNetDS", "init_filters": 8, "blocks_down": [1, 1, 2]}, (1, 2),
        (*LOAD, RAS, spacing(1.3, 1.3, 2.7), window(-57, 164, -1, 1)),
        (SOFTMAX, ARGMAX, NEAREST), (64, 64, 32), {"mode": "gaussian"}, modality="CT",
    ),
    Case(
        "VNet, logits interpolated", [HIPPOCAMPUS],
        {"_target_": "VNet", "dropout_dim": 3}, (1, 3),
        (*LOAD, RAS, NONZERO, spacing(1.2, 1.2, 1.2)), (LINEAR, ARGMAX), (32, 32, 32),
    ),
    Case(
        "AttentionUnet, one mask", [CT],
        {"_target_": "AttentionUnet", "channels": [8, 16, 32], "strides": [2, 2]}, (1, 1),
        (*LOAD, {**RAS, "axcodes": "PLI"}, spacing(1.5, 1.5, 2.5), window(-57, 164)),
        (SIGMOID, LINEAR, THRESHOLD), (96, 96, 32), {"overlap": 0.625, "mode": "gaussian"},
        modality="CT",
    ),
    Case(
        "BasicUNet, cropped before Spacing", [MS[1]],
        {"_target_": "BasicUNet", "features": [8, 8, 16, 32, 64, 8]}, (1, 4),
        (*LOAD, POSITIVE, RAS, spacing(2, 2, 2), ZSCORE), PROBABILITIES,
        (64, 64, 64), {"mode": "gaussian"},
    ),
    Case(
        "UNETR, the scan's spacing, cropped to a window", [BODY],
        {"_target_": "UNETR", "img_size": [64, 64, 32], "feature_size": 8, "hidden_size": 48,
         "mlp_dim": 96, "num_heads": 4}, (1, 5),
        (*LOAD, {**RAS, "axcodes": "LAS"}, window(-175, 250), POSITIVE), PROBABILITIES,
        (64, 64, 32), modality="CT",
    ),
    Case(
        "UNet, an oblique scan of 9 degrees", [DIFFUSION], unet(8, 16, 32), (1, 4),
        (*LOAD, RAS, spacing(1.5, 1.5, 2.0), ZSCORE), PROBABILITIES, (64, 64, 32),
    ),
    Case(
        "UNet, an oblique scan of 2 degrees", [THICK], unet(8, 16), (1, 3),
        (*LOAD, RAS, spacing(3, 3, 0.4), ZSCORE), PROBABILITIES, (32, 32, 8),
    ),
    Case(
        "UNet, turned by 14 degrees", [HIPPOCAMPUS], unet(8, 16, 32), (1, 3),
        (*LOAD, RAS, spacing(0.8, 0.8, 1.1), ZSCORE), PROBABILITIES, (32, 32, 32),
        turn=(0, 0, 14),
    ),
    Case(
        "UNet, turned about three axes, labels back to the nearest", [CT], unet(8, 16, 32), (1, 2),
        (*LOAD, {**RAS, "axcodes": "LPS"}, spacing(1.31, 1.41, 2.9), window(-57, 164)),
        (SOFTMAX, ARGMAX, NEAREST), (64, 64, 32), modality="CT", turn=(20, -9, 31),
    ),
    Case(
        "UNet, turned, logits interpolated", [HIPPOCAMPUS], unet(8, 16, 32), (1, 3),
        (*LOAD, ZSCORE, spacing(1.3, 1.3, 1.3)), (LINEAR, ARGMAX), (32, 32, 32),
        turn=(-7, 12, 3),
    ),
    Case(
        "UNet, Resize by area, one window", [BODY], unet(8, 16, 32), (1, 4),
        (*LOAD, RAS, window(-175, 250), resize(96, 96, 48)), PROBABILITIES, (), modality="CT",
    ),
    Case(
        "UNet, Resize by area, larger than the scan", [HIPPOCAMPUS], unet(8, 16, 32), (1, 3),
        (*LOAD, RAS, ZSCORE, resize(48, 64, 48)), PROBABILITIES, (), {},
    ),
    Case(
        "UNet, Resize with aligned corners, largest components", [CT], unet(8, 16, 32), (1, 2),
        (*LOAD, RAS, resize(96, 96, 32, **CORNERS), window(-57, 164)),
        (*PROBABILITIES, keep_largest(applied_labels=[1])), (64, 64, 32), modality="CT",
    ),
    Case(
        "UNet, Resize to the nearest, one component of all labels", [BODY], unet(8, 16, 32), (1, 5),
        (*LOAD, RAS, window(-175, 250), resize(64, 80, 32, mode="nearest")),
        (SOFTMAX, ARGMAX, NEAREST, keep_largest(independent=False, connectivity=1)),
        (), modality="CT",
    ),
    Case(
        "UNet, trilinear Resize, two components of each label", [HIPPOCAMPUS], unet(8, 16, 32),
        (1, 3), (*LOAD, RAS, ZSCORE, resize(40, 40, 40, mode="trilinear")),
        (SOFTMAX, LINEAR, {**ARGMAX, "to_onehot": 3},
         keep_largest(connectivity=2, num_components=2)), (32, 32, 32),
    ),
)  # fmt: skip


def write_bundle(case: Case, scans: Sequence[Path], folder: Path) -> Path:
    """Write the bundle of a case, with random weights whose outputs are centred."""
    import torch
    from monai.bundle import ConfigParser

    torch.manual_seed(0)
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "configs/metadata.json").write_text(json.dumps(case.metadata()))
    (folder / "configs/inference.json").write_text(json.dumps(case.configuration()))
    parser = ConfigParser(_for_monai(case))
    network = parser.get_parsed_content("network_def").eval()
    image = parser.get_parsed_content("preprocessing")({"image": _files(scans)})["image"]
    with torch.inference_mode():
        logits = parser.get_parsed_content("inferer")(image[None], network)[0].as_tensor()
    _centre(network, logits, case.channels[1])
    torch.save(network.state_dict(), folder / "models/model.pt")
    return folder


def _centre(network: Any, logits: Any, outputs: int) -> None:
    """Shift the bias of the last layer so that the outputs' medians are zero."""
    layers = [
        module
        for module in network.modules()
        if getattr(module, "out_channels", None) == outputs
        and getattr(module, "bias", None) is not None
    ]
    layers[-1].bias.data -= logits.flatten(1)[:, ::7].median(1).values


def _for_monai(case: Case) -> dict[str, Any]:
    configuration = copy.deepcopy(case.configuration())
    configuration["network_def"].pop("use_checkpoint", None)
    return configuration


def _files(scans: Sequence[Path]) -> Any:
    return str(scans[0]) if len(scans) == 1 else [str(scan) for scan in scans]


def monai_labels(case: Case, bundle: Path, scans: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Segment a scan with MONAI; labels and ties in the order in which the scan is stored."""
    import torch
    from monai.bundle import ConfigParser
    from monai.transforms import Invertd

    parser = ConfigParser(_for_monai(case))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    preprocessing = parser.get_parsed_content("preprocessing")
    data = preprocessing({"image": _files(scans)})
    with torch.inference_mode():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
        for transform in parser.get_parsed_content("postprocessing").transforms:
            if type(transform).__name__ == "AsDiscreted":
                data["ties"] = _ties(data["pred"], case)
            elif "ties" in data:
                back = Invertd(keys="ties", transform=preprocessing, orig_keys="image")
                data = back(data)
            data = transform(data)
    return _painted(data["pred"].numpy(), case), data["ties"].numpy()[0]


def _ties(outputs: Any, case: Case) -> Any:
    """Voxels (1, X, Y, Z) whose decision turns if an output does by :data:`TIE`."""
    if THRESHOLD in case.postprocessing:
        return ((outputs - 0.5).abs() < TIE).any(0, keepdim=True).float()
    first, second = outputs.topk(2, dim=0).values
    return (first - second < TIE)[None].float()


def _painted(pred: np.ndarray, case: Case) -> np.ndarray:
    """Paint masks in the order of a package; a map of labels stays."""
    if len(pred) == 1:
        return pred[0].astype(np.uint8)
    if not case.names:
        return pred.argmax(0).astype(np.uint8)  # a channel for each label
    labels = np.zeros(pred.shape[1:], np.uint8)
    for name, value in (("Whole tumor", 2), ("Tumor core", 1), ("Enhancing tumor", 4)):
        labels[pred[list(case.names).index(name)] > 0] = value
    return labels


def export(bundle: Path, folder: Path) -> Path:
    """Export the bundle to a package."""
    from segmaformer.export.monai_bundle.bundle import load_bundle
    from segmaformer.export.pipeline import export_package

    return export_package(load_bundle(bundle), folder / "model.sgmf").path


def sgmf_labels(package: Path, scans: Sequence[Path]) -> np.ndarray:
    """Segment a scan with a package."""
    from segmaformer.runtime import Package, Predictor

    return Predictor(Package.open(package), "onnxruntime").predict(scans).labels


def written_scans(case: Case, data: Path, folder: Path) -> list[Path]:
    """Return the scan's files; rewritten with one volume alone, and turned, where asked for."""
    scans = [data / name for name in case.scan]
    image = nibabel.load(scans[0])
    if image.ndim == 3 and not case.turn:
        return scans
    affine = image.affine.copy()
    for axis, degrees in enumerate(case.turn):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn, angle = np.eye(3), np.radians(degrees)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[other, one] = np.sin(angle)
        turn[one, other] = -np.sin(angle)
        affine[:3, :3] = turn @ affine[:3, :3]
    voxels = np.asanyarray(image.dataobj)
    path = folder / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.reshape(*voxels.shape[:3], -1)[..., 0], affine), path)
    return [path]


def compare(case: Case, data: Path, folder: Path) -> dict[str, Any]:
    scans = written_scans(case, data, folder)
    bundle = write_bundle(case, scans, folder / "bundle")
    (theirs, ties), monai_cost = measured(monai_labels, case, bundle, scans)
    package = export(bundle, folder)
    ours, cost = measured(sgmf_labels, package, scans)
    unlike = ours != theirs
    return {
        "bundle": case.name,
        "labels": np.bincount(theirs.ravel(), minlength=max(2, case.channels[1])).tolist(),
        "unlike": int((unlike & (ties == 0)).sum()),
        "unlike_ties": int((unlike & (ties > 0)).sum()),
        "ties": int((ties > 0).sum()),
        "cost": {"monai": monai_cost, "sgmf": cost},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="file to write, or to bring up to date")
    parser.add_argument("--only", type=int, nargs="*", help="cases to run, from 0 on")
    options = parser.parse_args()
    for index in options.only if options.only is not None else range(len(CASES)):
        with tempfile.TemporaryDirectory() as name:
            row = compare(CASES[index], options.data, Path(name))
        print(json.dumps(row), flush=True)
        if options.out is not None:
            record(row, options.out)


def record(row: dict[str, Any], target: Path) -> None:
    """Write a case, with the software's versions, beside those that are there."""
    known = json.loads(target.read_text())["cases"] if target.is_file() else []
    rows = {each["bundle"]: each for each in (*known, row)}
    ordered = [rows[case.name] for case in CASES if case.name in rows]
    names = ("monai", "torch", "onnxruntime", "nibabel", "numpy")
    document = {
        "software": {each: version(each) for each in names},
        "tie": TIE,
        "voxels": sum(sum(each["labels"]) for each in ordered),
        "unlike": sum(each["unlike"] for each in ordered),
        "unlike_ties": sum(each["unlike_ties"] for each in ordered),
    }
    lines = ",\n".join(f"    {json.dumps(each)}" for each in ordered)
    head = json.dumps(document, indent=2)[:-2]
    target.write_text(f'{head},\n  "cases": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
