"""Writing of a network that your own program trained as a checkpoint for `sgmf export`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from segmaformer.checkpoint.training.plans import preprocessing_of, resolve_configuration
from segmaformer.checkpoint.training.readers import training_reader
from segmaformer.models import model_config, network_class
from segmaformer.runtime.spec import Preprocessing
from segmaformer.runtime.system.atomic import atomic_file

_CONFIGURATION: Final = "3d_fullres"
_RESAMPLING: Final = {"is_seg": False, "order_z": 0, "force_separate_z": None}


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Facts about a training that a package has to repeat.

    Attributes
    ----------
    network
        Name of the network, as for :func:`segmaformer.models.create_model`.
    configuration
        Its configuration, as for :func:`segmaformer.models.model_config`.
    patch_size
        Depth, height and width of the training patch in voxels.
    spacing_mm
        Spacing of the voxels of a patch in mm, in the same order.
    channels
        Names of the input channels. nnU-Net's schemes follow them, unless `normalizations` tells
        others.
    labels
        Value of each structure, 0 for the background.
    normalizations
        nnU-Net's scheme for each channel, such as ``ZScoreNormalization``.
    intensities
        For ``CTNormalization``: ``mean``, ``std``, ``percentile_00_5`` and ``percentile_99_5`` of
        each channel.
    reader
        nnU-Net's reader of the scans: it decides which of a header's spacings counts.
    mirror_axes
        Axes of a patch along which the training mirrored.
    dataset
        Name of the training set.
    licence
        Licence of the weights; a package repeats it.
    trainer
        Name of the trainer, where only it tells two networks apart; the class's by default.
    """

    network: str
    configuration: Mapping[str, Any]
    patch_size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    channels: Sequence[str]
    labels: Mapping[str, int]
    normalizations: Sequence[str]
    intensities: Sequence[Mapping[str, float]] = field(default=())
    reader: str = "SimpleITKIO"
    mirror_axes: tuple[int, ...] = ()
    dataset: str = "Dataset000_Own"
    licence: str | None = None
    trainer: str = ""

    def plans(self) -> dict[str, Any]:
        """Return nnU-Net v2 plans with its cubic resampling."""
        configuration = {
            "architecture": {
                "network_class_name": network_class(self.network).__name__,
                "arch_kwargs": model_config(self.network, **self.configuration),
            },
            "patch_size": list(self.patch_size),
            "spacing": list(self.spacing_mm),
            "normalization_schemes": list(self.normalizations),
            "use_mask_for_norm": [False] * len(self.channels),
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {**_RESAMPLING, "order": 3},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {**_RESAMPLING, "order": 1},
        }
        return {
            "dataset_name": self.dataset,
            "plans_name": "nnUNetPlans",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "image_reader_writer": self.reader,
            "configurations": {_CONFIGURATION: configuration},
            "foreground_intensity_properties_per_channel": {
                str(index): dict(values) for index, values in enumerate(self.intensities)
            },
        }

    def dataset_json(self) -> dict[str, Any]:
        """Return the content of nnU-Net's dataset.json."""
        stated = {} if self.licence is None else {"licence": self.licence}
        return {
            **stated,
            "channel_names": {str(index): name for index, name in enumerate(self.channels)},
            "labels": dict(self.labels),
            "file_ending": ".nii.gz",
            "name": self.dataset,
        }

    def preprocessing(self) -> Preprocessing:
        """Return the preparation of a scan as the package will have it.

        Prepare your training scans by it too, and both are the same.
        """
        plans = self.plans()
        _, configuration = resolve_configuration(plans, _CONFIGURATION)
        reader = training_reader(plans)
        return preprocessing_of(plans, configuration, tuple(self.channels), reader)

    def save(
        self, weights: Mapping[str, torch.Tensor], path: str | Path, *, epoch: int = 0
    ) -> None:
        """Write weights as an nnU-Net v2 checkpoint that holds plans and dataset.json.

        Parameters
        ----------
        weights
            The network's ``state_dict()``.
        path
            File, such as ``checkpoint_final.pth``; it is whole at every moment.
        epoch
            Length of the training so far.
        """
        content = {
            "network_weights": dict(weights),
            "init_args": {
                "plans": self.plans(),
                "configuration": _CONFIGURATION,
                "fold": 0,
                "dataset_json": self.dataset_json(),
            },
            "trainer_name": self.trainer or f"{network_class(self.network).__name__}Trainer",
            "current_epoch": epoch,
            "inference_allowed_mirroring_axes": self.mirror_axes or None,
        }
        with atomic_file(Path(path)) as file:
            torch.save(content, file)
