"""Use of a network, from nnU-Net's documents or by default, checked against the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segmaformer.checkpoint.files.container import CheckpointFile
from segmaformer.checkpoint.training import defaults
from segmaformer.checkpoint.training.documents import Documents
from segmaformer.checkpoint.training.labels import (
    channel_names,
    foreground_values,
    output_of,
)
from segmaformer.checkpoint.training.plans import (
    network_arguments,
    patch_size,
    preprocessing_of,
    previous_stage_of,
    resolve_configuration,
)
from segmaformer.checkpoint.training.published_use import PublishedUse, published_use
from segmaformer.checkpoint.training.readers import training_reader
from segmaformer.models import channel_counts, model_config, network_class
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Output, Preprocessing, PreviousStage, Tiling, Triple


@dataclass(frozen=True)
class PlanEntry:
    """A configuration of plans.json by name: the training's data set, the plans, the configuration.

    Attributes
    ----------
    previous
        Configuration whose labels it takes, for a cascade's second stage.
    """

    dataset: str
    plans: str
    configuration: str
    previous: str | None = None


@dataclass(frozen=True)
class Usage:
    """Input, output and tiles of a network.

    Attributes
    ----------
    preprocessing, tiling
        None if nothing states them and no default is safe.
    assumptions
        One sentence for each source and each default.
    published
        The published training that stands in for plans.json and dataset.json, or None.
    plan
        Place of the network in plans.json; None without plans.
    previous_stage
        Labels that a cascade's second network takes as further channels; None for other networks.
    """

    output: Output
    preprocessing: Preprocessing | None
    tiling: Tiling | None
    assumptions: tuple[str, ...]
    published: PublishedUse | None = None
    plan: PlanEntry | None = None
    previous_stage: PreviousStage | None = None


def usage_of(
    file: CheckpointFile,
    documents: Documents,
    arch: str,
    config: Mapping[str, Any],
    *,
    configuration: str | None = None,
    tile: Triple | None = None,
    of_planes: bool = False,
) -> Usage:
    """Combine the known facts about the use of a network.

    Parameters
    ----------
    file
        The checkpoint, which may record a configuration and mirroring axes.
    documents
        Its plans and dataset, if there are any.
    arch, config
        Name and configuration of the network; its channels and outputs count.
    configuration
        Configuration of the plans; overrides the checkpoint's own.
    tile
        Patch size in voxels; overrides that of the plans.
    of_planes
        Whether the network is 2-D.

    Raises
    ------
    InputError
        Documents are malformed, or contradict each other or the network.
    """
    notes = list(documents.sources)
    in_channels, num_classes = channel_counts(config)
    if documents.plans is None and documents.dataset is None:
        published = published_use(arch, in_channels, num_classes)
        if published is not None:
            return _as_published(published, file, tile, notes)
    plan_entry, plan = _planned(file, documents, configuration, of_planes=of_planes)
    stage = _previous_stage(documents, plan)
    in_channels -= 0 if stage is None else len(stage.labels)
    channels = _channels(documents, in_channels, num_classes, notes)
    output = _output(documents, in_channels, num_classes, notes)
    if documents.plans is None or plan_entry is None:
        preprocessing, sentence = defaults.default_preprocessing(
            channels, num_classes, named=documents.dataset is not None
        )
        notes.append(sentence)
        planned = None
    else:
        recorded, chosen = _recorded_configuration(file), plan_entry.configuration
        but = f", as given, although the checkpoint is of {recorded}"
        notes.append(
            f"Configuration of the plans: {chosen}{'' if recorded in (None, chosen) else but}."
        )
        reader = training_reader(documents.plans, documents.dataset)
        if reader.assumption is not None:
            notes.append(reader.assumption)
        preprocessing = preprocessing_of(documents.plans, plan, channels, reader)
        planned = patch_size(plan)
    tiling = _tiling(file, tile, planned, notes)
    return Usage(output, preprocessing, tiling, tuple(notes), None, plan_entry, stage)


def _planned(
    file: CheckpointFile, documents: Documents, configuration: str | None, *, of_planes: bool
) -> tuple[PlanEntry | None, Mapping[str, Any]]:
    """Return the network's entry in the plans, and what stands there."""
    plans = documents.plans
    if plans is None:
        return None, {}
    recorded = _recorded_configuration(file)
    name, plan = resolve_configuration(plans, configuration or recorded, of_planes=of_planes)
    previous = plan.get("previous_stage")
    entry = PlanEntry(
        str(plans.get("dataset_name")),
        str(plans.get("plans_name")),
        name,
        None if previous is None else str(previous),
    )
    return entry, plan


def _previous_stage(documents: Documents, plan: Mapping[str, Any]) -> PreviousStage | None:
    if plan.get("previous_stage") is None:
        return None
    if documents.dataset is None:
        raise InputError(
            "the network is a cascade's second stage, whose labels are further channels, and no "
            "dataset.json names them; give the dataset.json of its training (dataset_json)"
        )
    return previous_stage_of(plan, foreground_values(documents.dataset))


def stated_config(
    file: CheckpointFile,
    documents: Documents,
    arch: str,
    *,
    configuration: str | None = None,
    keys_of_plan: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
    of_planes: bool = False,
) -> dict[str, Any]:
    """Return the configuration keys of network `arch` that the plans state; see :func:`usage_of`.

    Without `keys_of_plan`, only plans made for this very network count.

    Raises
    ------
    InputError
        The plans have keys or values that the network does not have, or describe another network
        than those that the checkpoint records.
    """
    if documents.plans is None:
        return {}
    name, plan = resolve_configuration(
        documents.plans, configuration or _recorded_configuration(file), of_planes=of_planes
    )
    if keys_of_plan is not None:
        keys = keys_of_plan(plan)
        _refuse_another_network(file, name, keys, keys_of_plan, of_planes=of_planes)
    else:
        keys = network_arguments(plan, network_class(arch).__name__, model_config(arch))
    try:
        model_config(arch, **keys)
    except ValueError as error:
        raise InputError(f"plans.json: {error}") from error
    return keys


def _refuse_another_network(
    file: CheckpointFile,
    name: str,
    keys: Mapping[str, Any],
    keys_of_plan: Callable[[Mapping[str, Any]], dict[str, Any]],
    *,
    of_planes: bool,
) -> None:
    """Refuse plans whose network differs from the recorded one, which weights may not show."""
    plans = file.init_args.get("plans")
    if not isinstance(plans, Mapping) or name not in (plans.get("configurations") or {}):
        return
    recorded = keys_of_plan(resolve_configuration(plans, name, of_planes=of_planes)[1])
    for key in keys.keys() & recorded.keys():
        if keys[key] != recorded[key]:
            raise InputError(
                f"plans.json says {key}={keys[key]} for {name}, but the checkpoint records "
                f"{recorded[key]}; give the plans.json of its training"
            )


def _as_published(
    published: PublishedUse, file: CheckpointFile, tile: Triple | None, notes: list[str]
) -> Usage:
    notes += published.sentences
    tiling = published.tiling
    if tile is not None and tile != tiling.tile:
        notes.append(f"Patch size: {tile} as given, although the published one is {tiling.tile}.")
        tiling = dataclasses.replace(tiling, tile=tile)
    if file.mirror_axes is not None:
        tiling = dataclasses.replace(tiling, mirror_axes=file.mirror_axes)
    return Usage(published.file_output, published.preprocessing, tiling, tuple(notes), published)


def _channels(
    documents: Documents, expected: int, num_classes: int, notes: list[str]
) -> tuple[str, ...]:
    if documents.dataset is None:
        names, sentence = defaults.default_channels(expected, num_classes)
        notes.append(sentence)
        return names
    names = channel_names(documents.dataset)
    if len(names) != expected:
        raise InputError(
            f"the network takes {expected} channels, but dataset.json names {len(names)}: "
            f"{', '.join(names)}; give the dataset.json of this training"
        )
    return names


def _output(documents: Documents, in_channels: int, num_classes: int, notes: list[str]) -> Output:
    if documents.dataset is None:
        output, sentence = defaults.default_output(in_channels, num_classes)
        notes.append(sentence)
        return output
    output = output_of(documents.dataset)
    if output.channels != num_classes:
        kind = "regions" if output.regions else "labels with the background"
        raise InputError(
            f"the network has {num_classes} outputs, but dataset.json has "
            f"{output.channels} {kind}; give the dataset.json of this training"
        )
    return output


def _recorded_configuration(file: CheckpointFile) -> str | None:
    recorded = file.init_args.get("configuration")
    return None if recorded is None else str(recorded)


def _tiling(
    file: CheckpointFile, tile: Triple | None, planned: Triple | None, notes: list[str]
) -> Tiling | None:
    if tile is not None and planned not in (None, tile):
        notes.append(f"Patch size: {tile} as given, although the plans say {planned}.")
    if file.mirror_axes is None:
        notes.append("Mirroring at test time: none, as the checkpoint records no axes for it.")
    chosen = tile or planned
    return None if chosen is None else Tiling(chosen, mirror_axes=file.mirror_axes or ())
