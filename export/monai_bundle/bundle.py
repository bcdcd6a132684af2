"""A MONAI bundle as a checkpoint that can be exported."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segmaformer.checkpoint.fields import integer, mapping, number, triple
from segmaformer.checkpoint.loading import Checkpoint
from segmaformer.export.monai_bundle.arguments import Transform, transforms
from segmaformer.export.monai_bundle.configuration import (
    METADATA,
    Bundle,
    Configuration,
    read_bundle,
)
from segmaformer.export.monai_bundle.decision import (
    meaning,
    postprocessing,
    read_decision,
    with_interpolation,
)
from segmaformer.export.monai_bundle.networks import build_network
from segmaformer.export.monai_bundle.preparation import Preparation, read_preparation
from segmaformer.export.own_network.own_module import Use, module_checkpoint
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report
from segmaformer.runtime.spec import Tiling


def load_bundle(
    folder: Path, *, weights_key: str | None = None, report: Report = lambda line: None
) -> Checkpoint:
    """Read a MONAI bundle: its configurations as data, its weights without running code.

    Parameters
    ----------
    folder
        Folder with ``configs/metadata.json``, ``configs/inference.json`` (or YAML) and
        ``models/model.pt``.
    weights_key
        Which dictionary of the weights' file, where several fit: its key.
    report
        Called with a line for each part of the configuration that is ignored.

    Raises
    ------
    InputError
        Something of the bundle cannot be honoured exactly, is malformed, or contradicts itself.
    MissingExtraError
        MONAI, or PyYAML for a configuration in YAML, is not installed.
    """
    bundle = read_bundle(folder)
    configuration = bundle.inference
    _check_wiring(configuration)
    inputs, outputs = _channels(bundle, "inputs"), _channels(bundle, "outputs")
    preparation = read_preparation(
        transforms("@preprocessing", "preprocessing", configuration), len(inputs)
    )
    decision = read_decision(
        transforms("@postprocessing", "postprocessing", configuration), preparation, report
    )
    output, order = meaning(decision, outputs)
    preprocessing = preparation.specification(inputs, modality=_modality(bundle))
    preprocessing, output = with_interpolation(preprocessing, output, decision)
    tiling = _tiling(configuration, preparation, report)
    described = configuration.component("@network_def", "network_def")
    if described is None:
        raise InputError(f"{configuration.file}: network_def is disabled")
    network = build_network(described, configuration, len(inputs), len(outputs), report)
    checkpoint = module_checkpoint(
        network,
        Use(preprocessing, tiling, output),
        weights=bundle.weights,
        weights_key=weights_key,
        name=f"monai.{described.name}",
    )
    if order != tuple(range(len(outputs))):
        checkpoint = dataclasses.replace(checkpoint, model=_Reordered(checkpoint.model, order))
    version = bundle.metadata.get("version")
    sentence = f"The network and its use are those of the MONAI bundle {folder.absolute().name}"
    return dataclasses.replace(
        checkpoint,
        assumptions=(f"{sentence}, version {version!s:.40}.",),
        postprocessing=postprocessing(decision, output),
    )


class _Reordered(nn.Module):
    """A network whose outputs come in another order."""

    def __init__(self, network: nn.Module, order: tuple[int, ...]):
        super().__init__()
        self.network = network
        self.order = order

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K, D, H, W)."""
        logits: torch.Tensor = self.network(tiles)
        return torch.stack([logits[:, channel] for channel in self.order], dim=1)


_WIRED = {
    ("evaluator", "network"): "network_def",
    ("evaluator", "inferer"): "inferer",
    ("evaluator", "postprocessing"): "postprocessing",
    ("dataset", "transform"): "preprocessing",
}
"""Entries of MONAI's bundle specification, by who uses them."""
_NETWORK = ("@network_def", "$@network_def.to(@device)")


def _check_wiring(configuration: Configuration) -> None:
    """Refuse an evaluator or data set that uses other entries than those of the specification."""
    entries = configuration.entries
    if missing := [name for name in _WIRED.values() if name not in entries]:
        raise InputError(
            f"{configuration.file} has no {missing[0]}; expected the entries of MONAI's bundle "
            "specification"
        )
    for (holder, argument), name in _WIRED.items():
        held = entries.get(holder)
        found = held.get(argument, f"@{name}") if isinstance(held, Mapping) else f"@{name}"
        if name == "network_def" and found == "@network":
            found = entries.get("network")
        if found != f"@{name}" and not (name == "network_def" and found in _NETWORK):
            raise InputError(
                f"{configuration.file}: {holder}.{argument} is {reprlib.repr(found)}; expected "
                f"@{name}"
            )


def _format(bundle: Bundle, side: str) -> Mapping[str, Any]:
    """Return the description of the only input or output."""
    data = mapping(bundle.metadata.get("network_data_format"), f"{METADATA}: network_data_format")
    entries = mapping(data.get(side), f"{METADATA}: network_data_format.{side}")
    if len(entries) != 1:
        raise InputError(f"{METADATA} has {len(entries)} network {side}; expected one")
    ((name, entry),) = entries.items()
    return mapping(entry, f"{METADATA}: network_data_format.{side}.{name}")


def _modality(bundle: Bundle) -> str:
    return str(_format(bundle, "inputs").get("modality", ""))


def _channels(bundle: Bundle, side: str) -> tuple[str, ...]:
    """Return names of the input or output channels, numbered where the metadata has none."""
    entry = _format(bundle, side)
    count = integer(entry.get("num_channels"), f"{METADATA}: num_channels of {side}")
    if not 1 <= count <= 1000:
        raise InputError(f"{METADATA} has {count} channels of {side}; expected 1 to 1000")
    names = entry.get("channel_def")
    if isinstance(names, Mapping) and names.keys() == {str(i) for i in range(count)}:
        return tuple(str(names[str(i)]) for i in range(count))
    return tuple(f"{'channel' if side == 'inputs' else 'label'} {i}" for i in range(count))


def _tiling(configuration: Configuration, preparation: Preparation, report: Report) -> Tiling:
    """Read the sliding window, or the whole image of a fixed size."""
    component = configuration.component("@inferer", "inferer")
    shape = preparation.shape
    if component is not None and component.name == "SimpleInferer" and shape is not None:
        Transform(component, configuration).finish()
        return Tiling(shape, step=1, gaussian=False, scheme="monai")
    if component is None or component.name != "SlidingWindowInferer":
        raise InputError(
            f"{configuration.file}: inferer is {component.name if component else 'disabled'}; "
            "expected SlidingWindowInferer with a roi_size, or SimpleInferer after Resize, as the "
            "exported network has one size"
        )
    inferer = Transform(component, configuration)
    where = inferer.where
    size = inferer.take("roi_size")
    tile = triple(size if isinstance(size, list) else [size] * 3, f"{where}.roi_size")
    overlap = inferer.take("overlap", 0.25)
    each = overlap if isinstance(overlap, list) and overlap else [overlap]
    if any(other != each[0] for other in each):
        raise inferer.refused(f"has overlap {overlap}; expected the same along every axis")
    share = number(each[0], f"{where}.overlap")
    mode = inferer.take("mode", "constant")
    if mode not in ("constant", "gaussian"):
        raise inferer.refused(f"has mode {mode!r}; expected constant or gaussian")
    inferer.expect("sigma_scale", 0.125)
    inferer.expect("padding_mode", "constant")
    inferer.expect("cval", 0, 0.0)
    for name in ("roi_weight_map", "process_fn"):
        inferer.expect(name)
    inferer.expect("with_coord", False)
    batch = inferer.take("sw_batch_size", 1)
    report(f"ignored: {where}.sw_batch_size {batch!r}, as the backend chooses its batch")
    inferer.ignore("sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh")
    inferer.ignore("buffer_steps", "buffer_dim")
    inferer.finish()
    return Tiling(tile, step=1 - share, gaussian=mode == "gaussian", scheme="monai")
