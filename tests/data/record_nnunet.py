"""Record what nnU-Net v2 computes, for tests/runtime/pipeline/test_nnunet_parity.py.

Needs an environment with nnunetv2 and this package, see README.md beside this file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from unittest import mock

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, "/nonexistent")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization import default_normalization_schemes
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    resample_data_or_seg_to_shape,
)
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.scans import parity_cases as cases
from support.scans import parity_scans as scans
from support.scans import spacing_cases

Arrays = dict[str, np.ndarray]
LEAST_MARGIN = 2e-5
MIRRORED_AXES = ((0,), (2,), (0, 1), (0, 1, 2))


def cropping() -> Arrays:
    recorded = {}
    for name, image in cases.cropping_images().items():
        _, segmentation, box = crop_to_nonzero(image)
        recorded[f"{name}/box"] = np.array(box)
        recorded[f"{name}/mask"] = segmentation[0] >= 0
    return recorded


def normalization() -> Arrays:
    recorded = {}
    for scheme in cases.NORMALIZATIONS:
        kind = getattr(default_normalization_schemes, scheme)
        for name, (channel, mask) in cases.normalization_channels().items():
            if scheme == "RGBTo01Normalization" and name != "colour":
                continue
            for masked in (False, True):
                normalizer = kind(use_mask_for_norm=masked, intensityproperties=cases.CT_PROPERTIES)
                segmentation = np.where(mask, 0, -1)
                key = f"{scheme}/{name}/{'masked' if masked else 'whole'}"
                recorded[key] = normalizer.run(channel.copy(), segmentation)
    return recorded


def resampling() -> Arrays:
    recorded = {
        name: resample_data_or_seg_to_shape(
            case.image(),
            case.new_shape,
            case.spacing,
            case.new_spacing,
            order=case.order,
            order_z=case.order_z,
            force_separate_z=case.separate_z,
            separate_z_anisotropy_threshold=case.threshold,
        )
        for name, case in cases.RESAMPLING_CASES.items()
    }
    shapes = [compute_new_shape(*case) for case in cases.shape_cases()]
    return {**recorded, "shapes": np.array(shapes)}


def tiling() -> Arrays:
    steps = [
        compute_steps_for_sliding_window((extent,), (tile,), step)[0]
        for extent, tile, step in cases.step_cases()
    ]
    recorded = {"starts": np.concatenate(steps), "counts": np.array([len(step) for step in steps])}
    for name, tile in cases.WEIGHT_TILES.items():
        for dtype in (torch.float16, torch.float32):
            weights = compute_gaussian(
                tile, value_scaling_factor=10, dtype=dtype, device=torch.device("cpu")
            )
            recorded[f"weights/{name}/{weights.numpy().dtype}"] = weights.numpy()
    for name, shape in cases.BLENDING_SHAPES.items():
        image = cases.blending_image(shape)
        padded, inner = pad_nd_image(image, cases.BLENDING_TILE, return_slicer=True)
        recorded[f"padded/{name}"] = padded
        recorded[f"inner/{name}"] = np.array([(side.start, side.stop) for side in inner[1:]])
        for step, gaussian in ((0.5, True), (0.5, False), (0.75, True)):
            predictor = ramp_predictor(step, gaussian)
            with mock.patch.object(torch, "half", torch.float32):  # the accumulators' type
                logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(image))
            key = f"logits/{name}/{step}/{'gaussian' if gaussian else 'even'}"
            recorded[key] = logits.numpy()
    tile = torch.from_numpy(cases.blending_image(cases.BLENDING_TILE))[None]
    for axes in MIRRORED_AXES:
        predictor = ramp_predictor(0.5, True, axes)
        mean = predictor._internal_maybe_mirror_and_predict(tile)
        recorded[f"mirrored/{'-'.join(map(str, axes))}"] = mean.numpy()
    return recorded


class Ramp(torch.nn.Module):
    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return cases.ramp_network(tiles)


def ramp_predictor(
    step: float, gaussian: bool, mirror_axes: tuple[int, ...] | None = None
) -> nnUNetPredictor:
    plans = scans.plans()
    plans["configurations"]["3d_fullres"]["patch_size"] = list(cases.BLENDING_TILE)
    dataset = {"labels": {"background": 0, "structure": 1}}
    return new_predictor(Ramp(), plans, dataset, mirror_axes, step=step, gaussian=gaussian)


def new_predictor(
    network: torch.nn.Module,
    plans: dict,
    dataset: dict,
    mirror_axes: tuple[int, ...] | None,
    *,
    step: float = 0.5,
    gaussian: bool = True,
) -> nnUNetPredictor:
    predictor = nnUNetPredictor(
        tile_step_size=step, use_gaussian=gaussian, device=torch.device("cpu"), allow_tqdm=False
    )
    manager = PlansManager(plans)
    predictor.manual_initialization(
        network,
        manager,
        manager.get_configuration("3d_fullres"),
        [network.state_dict()],
        dataset,
        "nnUNetTrainer",
        mirror_axes or None,
    )
    return predictor


def labelling() -> Arrays:
    logits = torch.from_numpy(cases.label_logits())
    recorded = {}
    for name, dataset in cases.LABEL_DATASETS.items():
        manager = LabelManager(dataset["labels"], dataset.get("regions_class_order"))
        labels = manager.convert_logits_to_segmentation(logits)
        recorded[name] = labels.numpy().astype(np.uint8)
    return recorded


def preprocessing() -> Arrays:
    recorded = {}
    for name, case in scans.PREPROCESSING_CASES.items():
        manager = PlansManager(case.plans)
        image, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            case.scan(),
            None,
            {"spacing": case.spacing},
            manager,
            manager.get_configuration("3d_fullres"),
            {},
        )
        recorded[f"{name}/image"] = image
        recorded[f"{name}/box"] = np.array(properties["bbox_used_for_cropping"])
    return recorded


def prediction() -> Arrays:
    recorded = {}
    for name, case in scans.PREDICTION_CASES.items():
        predictor = new_predictor(
            scans.filled_network(), case.case.plans, case.dataset, case.mirror_axes
        )
        scan, properties = case.case.scan(), {"spacing": case.case.spacing}
        half = predictor.predict_single_npy_array(scan, dict(properties))
        with mock.patch.object(torch, "half", torch.float32):
            labels, probabilities = predictor.predict_single_npy_array(
                scan, dict(properties), save_or_return_probabilities=True
            )
        margin = least_margin(probabilities, regions="regions_class_order" in case.dataset)
        counts = np.bincount(labels.ravel()).tolist()
        print(
            f"{name}: voxels of each label {counts}, least margin {margin:.1e}, "
            f"float16 accumulators change {np.count_nonzero(labels != half)} of {labels.size}"
        )
        if margin < LEAST_MARGIN:
            raise SystemExit(f"{name}: rounding may decide a label, take another seed")
        recorded[f"{name}/labels"] = labels.astype(np.uint8)
        recorded[f"{name}/labels from float16 accumulators"] = half.astype(np.uint8)
    return recorded


def record_spacings() -> None:
    """Write the spacing that nnU-Net's readers take from each header, as JSON."""
    table: dict[str, dict[str, list[float] | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in spacing_cases.write_cases(Path(folder)).items():
            table[name] = {}
            for reader in spacing_cases.READERS:
                if reader.startswith("Nibabel") and path.suffix != ".nii":
                    continue
                try:
                    _, found = recursive_find_reader_writer_by_name(reader)().read_images(
                        [str(path)]
                    )
                    table[name][reader] = [float(edge) for edge in found["spacing"]]
                except RuntimeError as error:  # directions that ITK does not take
                    print(f"{name}: {reader}: {str(error).splitlines()[-1]}")
                    table[name][reader] = None
    lines = (f" {json.dumps(name)}: {json.dumps(found)}" for name, found in table.items())
    spacing_cases.RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def least_margin(probabilities: np.ndarray, *, regions: bool) -> float:
    """Return the smallest difference of logits that decides any voxel's label."""
    exact = probabilities.astype(np.float64)
    if regions:
        return float(4 * np.abs(exact - 0.5).min())  # the sigmoid has slope 1/4 there
    second, first = np.sort(exact, axis=0)[-2:]
    return float(np.log(first / np.maximum(second, 1e-30)).min())


def main() -> None:
    torch.set_num_threads(1)
    print(f"nnunetv2 {version('nnunetv2')}, torch {torch.__version__}, NumPy {np.__version__}")
    for topic in (
        cropping,
        normalization,
        resampling,
        tiling,
        labelling,
        preprocessing,
        prediction,
    ):
        path = cases.DATA / "nnunet" / f"{topic.__name__}.npz"
        np.savez_compressed(path, **topic())
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")
    record_spacings()


if __name__ == "__main__":
    main()
