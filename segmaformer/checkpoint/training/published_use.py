"""Preparation of scans and reading of outputs in the published BraTS trainings.

Their checkpoints hold weights alone, so these records stand in for a missing plans.json and
dataset.json. They only apply to a network with the published channels and outputs.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from segmaformer.checkpoint.training.labels import region_output
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

_TILE = (128, 128, 128)
_XYZ = (2, 1, 0)


@dataclass(frozen=True)
class PublishedUse:
    """Use of a network in one published training.

    Attributes
    ----------
    preprocessing, tiling, output
        As in the published inference; regions in the order in which they are painted.
    sentences
        Sentences that tell a person about them.
    head
        Name of the last layer, if `head_order` is set.
    head_order
        Index of the file's output for each output here: regions that contain others come first,
        because later ones are painted over earlier.
    head_axis
        Axis of the last layer's weight that counts outputs.
    """

    preprocessing: Preprocessing
    tiling: Tiling
    output: Output
    sentences: tuple[str, ...]
    head: str = ""
    head_order: tuple[int, ...] = ()
    head_axis: int = 0

    @property
    def file_output(self) -> Output:
        """Meaning of the outputs of the file's network, in their own order."""
        places = [self.head_order.index(channel) for channel in range(len(self.head_order))]
        regions = tuple(self.output.regions[place] for place in places)
        return dataclasses.replace(self.output, regions=regions)

    def in_painting_order(self, model: nn.Module) -> nn.Module:
        """Return the network with its outputs in the order of `output`.

        That is `model` itself where they are, else a copy that shares all weights but the last
        layer's.
        """
        if not self.head_order:
            return model
        own = {id(values) for values in model.get_submodule(self.head).parameters()}
        shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
        ordered = copy.deepcopy(model, {key: shared[key] for key in shared.keys() - own})
        index = torch.tensor(self.head_order)
        with torch.no_grad():
            for name, axis in (("weight", self.head_axis), ("bias", 0)):
                values = ordered.get_parameter(f"{self.head}.{name}")
                values.copy_(values.index_select(axis, index))
        return ordered


def published_use(arch: str, in_channels: int, num_classes: int) -> PublishedUse | None:
    """Return the published use of network `arch` if its channels and outputs are the published."""
    use = PUBLISHED.get(arch)
    if use is None:
        return None
    counts = (len(use.preprocessing.channels), use.output.channels)
    return use if counts == (in_channels, num_classes) else None


_REORDERED = (
    "Outputs: the file has tumor core, whole tumor, enhancing tumor; in a package whole tumor "
    "comes first, so that parts are painted over the whole. Export puts the last layer's weights "
    "in that order."
)

PUBLISHED: dict[str, PublishedUse] = {
    "segmamba": PublishedUse(
        Preprocessing(
            channels=("T2", "T2-FLAIR", "T1", "T1 with contrast"),
            normalization=(Normalization("zscore"),) * 4,
            orientation="LPS",
            spacing=(1.0, 1.0, 1.0),
            reader="simpleitk",
        ),
        Tiling(_TILE, mirror_axes=(0, 1, 2), scheme="monai"),
        Output(
            (
                Label(0, "background"),
                Label(1, "necrotic tumor core"),
                Label(2, "edema"),
                Label(3, "enhancing tumor"),
            )
        ),
        (
            "Input channels: T2, T2-FLAIR, T1, T1 with contrast; output: the exclusive labels of "
            "BraTS 2023. As in the published training.",
            "Preprocessing as in the published training: cropped to nonzero, each channel scaled "
            "to mean 0 and standard deviation 1, 1 mm voxels, orientation LPS as BraTS stores it.",
            "Tiles: 128x128x128 with MONAI's positions, half overlapping, Gaussian weights.",
        ),
    ),
    "segresmamba": PublishedUse(
        Preprocessing(
            channels=("T2-FLAIR", "T1", "T1 with contrast", "T2"),
            normalization=(Normalization("zscore", use_mask=True),) * 4,
            orientation="LPS",
            transpose_forward=_XYZ,
            reader="monai",
        ),
        Tiling(_TILE, gaussian=False, scheme="monai"),
        region_output(
            {"whole tumor": (1, 2, 4), "tumor core": (1, 4), "enhancing tumor": (4,)}, (2, 1, 4)
        ),
        (
            "Input channels: T2-FLAIR, T1, T1 with contrast, T2. This order is a guess, as no "
            "record of the published one was at hand: check it against the training.",
            _REORDERED,
            "Preprocessing as in the published training: cropped to nonzero, each channel scaled "
            "to mean 0 and standard deviation 1 over the nonzero voxels, the scan's own spacing, "
            "axes in the file's order x, y, z and orientation LPS as BraTS stores them.",
            "Tiles: 128x128x128 with MONAI's positions, half overlapping, equal weights.",
        ),
        head="out",
        head_order=(1, 0, 2),
        head_axis=1,
    ),
    "segformer3d": PublishedUse(
        Preprocessing(
            channels=("T2-FLAIR", "T1", "T1 with contrast", "T2"),
            normalization=(Normalization("rescale01_slices"),) * 4,
            orientation="RAS",
            reader="monai",
        ),
        Tiling(_TILE, gaussian=False, scheme="monai"),
        region_output(
            {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}, (1, 2, 3)
        ),
        (
            "Input channels: T2-FLAIR, T1, T1 with contrast, T2; output: the overlapping BraTS "
            "regions. As in the published training.",
            _REORDERED,
            "Preprocessing as in the published training: RAS orientation, each axial slice scaled "
            "to 0 to 1, the scan's own spacing. It cut a fixed box out of BraTS scans; here the "
            "box of nonzero voxels is taken.",
            "Tiles: 128x128x128 with MONAI's positions, half overlapping, equal weights.",
        ),
        head="segformer_decoder.linear_pred",
        head_order=(1, 0, 2),
    ),
}
"""Published uses by the name of the network."""
