"""The whole pipeline against nnU-Net v2's predictor: same network, same scan, one run.

    python benchmarks/pipeline.py SCAN --out pipeline.json

Needs an environment with both ``segmaformer[export]`` and ``nnunetv2``. Each candidate runs in a
process of its own; peak memory is its largest resident size. The network is a SegMaFormer with
random weights, which changes nothing in the work: `--classes` outputs, tiles of `--tile`
voxels at `--spacing` mm. nnU-Net runs as its own predictor does on a CPU, without mirroring.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from turns import in_process

Stages = dict[str, float]


def make_checkpoint(path: Path, classes: int, tile: int, spacing_mm: float) -> None:
    """Build a SegMaFormer with random weights in nnU-Net form, CT normalisation."""
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(0)
    model = create_model("segmaformer", preset="bctv", num_classes=classes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] in ("gamma1", "gamma2"):
                parameter.uniform_(0.3, 0.7)
    intensities = {"mean": 50.0, "std": 100.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "architecture": {
            "network_class_name": "SegMaFormer",
            "arch_kwargs": {"num_classes": classes},
            "_kw_requires_import": [],
        },
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [tile] * 3,
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
    }
    plans = {
        "dataset_name": "Dataset000_Benchmark",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "NibabelIOWithReorient",
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }
    labels = {"background": 0, **{f"organ {value}": value for value in range(1, classes)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    init_args = {"plans": plans, "configuration": "3d_fullres", "dataset_json": dataset}
    torch.save(
        {
            "network_weights": model.state_dict(),
            "init_args": {**init_args, "fold": 0},
            "trainer_name": "SegMaFormerTrainer",
            "inference_allowed_mirroring_axes": None,
        },
        path,
    )


class Stopwatch:
    """Sum of the seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: Stages = {}

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - start

        return timed


class TimedSession:
    """Session whose runs count as the network's; other attributes are those of the given one."""

    def __init__(self, session: Any, watch: Stopwatch):
        self._session = session
        self.run = watch.wrap("network", session.run)
        coarse = session.coarse
        # Where the pipeline makes logits larger itself, that is work around the network.
        self.coarse = coarse and replace(coarse, run=watch.wrap("network", coarse.run))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def export(folder: Path) -> None:
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.pipeline import export_package

    export_package(load_checkpoint(folder / "model.pth"), folder / "model.sgmf")


def run_sgmf(folder: Path, scan: Path, output: Path) -> Stages:
    from segmaformer.runtime import Package, Predictor
    from segmaformer.runtime.open_network import OpenNetwork

    watch = Stopwatch()
    predictor = Predictor(Package.open(folder / "model.sgmf"))
    session = TimedSession(predictor.network.session, watch)
    predictor.network = OpenNetwork(lambda: session, (), print)
    start = time.perf_counter()
    segmentation = predictor.predict(scan)
    segmentation.save(output)
    return {**watch.seconds, "total": time.perf_counter() - start}


def run_nnunet(folder: Path, scan: Path, output: Path) -> Stages:
    os.environ.update(
        dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "/tmp")
    )
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from segmaformer.checkpoint import load_checkpoint

    checkpoint = torch.load(folder / "model.pth", weights_only=True)
    init = checkpoint["init_args"]
    plans = PlansManager(init["plans"])
    watch = Stopwatch()
    model = load_checkpoint(folder / "model.pth").model
    model.forward = watch.wrap("network", model.forward)
    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        model, plans, plans.get_configuration("3d_fullres"), [checkpoint["network_weights"]],
        init["dataset_json"], "SegMaFormerTrainer", None,
    )  # fmt: skip
    start = time.perf_counter()
    configuration = predictor.configuration_manager
    reader = plans.image_reader_writer_class()
    voxels, properties = watch.wrap("read", reader.read_images)([str(scan)])
    preprocess = configuration.preprocessor_class(verbose=False).run_case_npy
    image, _, properties = watch.wrap("preprocess", preprocess)(
        voxels, None, properties, plans, configuration, init["dataset_json"]
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(image).float())
    stem = str(output).removesuffix(".nii.gz")
    watch.wrap("labels and writing", export_prediction_from_logits)(
        logits, properties, configuration, plans, init["dataset_json"], stem
    )
    return {**watch.seconds, "total": time.perf_counter() - start}


CANDIDATES = {"sgmf": run_sgmf, "nnunetv2": run_nnunet}


def run(name: str, folder: Path, scan: Path, output: Path) -> tuple[Stages, float | None]:
    """Return seconds by stage, and the peak memory of this process in MiB."""
    from segmaformer.runtime.system.memory import peak_mib

    return CANDIDATES[name](folder, scan, output), peak_mib()


def prepare(folder: Path, classes: int, tile: int, spacing_mm: float) -> None:
    """Write the checkpoint and its package to `folder`."""
    make_checkpoint(folder / "model.pth", classes, tile, spacing_mm)
    export(folder)


def main() -> None:
    import nibabel

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--tile", type=int, default=96)
    parser.add_argument("--spacing", type=float, default=1.5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_process(prepare, folder, options.classes, options.tile, options.spacing)
        for candidate in CANDIDATES:
            output = folder / f"{candidate}.nii.gz"
            stages, peak = in_process(run, candidate, folder, options.scan, output)
            around = stages["total"] - stages["network"]
            results[candidate] = {**stages, "around the network": around, "peak_mib": peak}
        labels = [np.asarray(nibabel.load(folder / f"{c}.nii.gz").dataobj) for c in CANDIDATES]
    unlike = int((labels[0] != labels[1]).sum())
    ours, theirs = results["sgmf"], results["nnunetv2"]
    print("| | network s | around the network s | total s | peak MiB |\n|---|---|---|---|---|")
    for name, row in results.items():
        print(
            f"| {name} | {row['network']:.1f} | {row['around the network']:.2f} "
            f"| {row['total']:.1f} | {row['peak_mib']:.0f} |"
        )
    ratio = theirs["around the network"] / ours["around the network"]
    memory = theirs["peak_mib"] / ours["peak_mib"]
    print(f"around the network {ratio:.1f} times faster, peak memory {memory:.1f} times smaller")
    print(f"{unlike} of {labels[0].size} labels differ")
    if options.out:
        setting = {"scan": options.scan.name, "classes": options.classes, "tile": options.tile}
        document = {**setting, "results": results, "labels_unlike": unlike}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
