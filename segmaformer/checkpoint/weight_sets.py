"""Choice of the network's own weights among the contents of a checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from segmaformer.checkpoint.fields import listing
from segmaformer.checkpoint.files.container import CheckpointFile, WeightDictionary
from segmaformer.checkpoint.files.shards import complain_about_lone_shard
from segmaformer.checkpoint.recognition import (
    Architecture,
    Recognised,
    check_arch,
    decide,
    find_networks,
    stranger,
    without_wrappers,
)
from segmaformer.runtime.errors import InputError

WELL_KNOWN = ("network_weights", "state_dict", "model_state_dict", "module", "model")
"""Keys under which training programs store the weights; any other is named in the report."""

_COUNTERS = ("total_ops", "total_params", "n_averaged")
"""Names that thop and torch.optim.swa_utils leave among the weights; never read."""

_MOST_SETS_SHOWN = 10
_MOST_OF_A_KIND = 3


@dataclass(frozen=True, eq=False)
class ChosenWeights:
    """Weights of one network.

    Attributes
    ----------
    arch
        Name of the network.
    weights
        Tensors by the network's own names; types as stored.
    sentences
        Source of the weights and entries left out, unless both are the usual ones.
    """

    arch: Architecture
    weights: dict[str, torch.Tensor]
    sentences: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Set:
    """Weights of a whole network: the dictionary that they are in and their prefix there."""

    dictionary: WeightDictionary
    network: Recognised

    @property
    def label(self) -> str:
        """Name that chooses this set: its keys and prefix with dots between, or a dot alone."""
        return ".".join((*self.dictionary.keys, self.network.prefix.rstrip("."))).strip(".") or "."

    def other_labels(self) -> set[str]:
        """Return names that also choose it, if no other set is called so."""
        keys, prefix = ".".join(self.dictionary.keys), self.network.prefix.rstrip(".")
        plain = without_wrappers(prefix)
        return {keys, prefix, plain, f"{keys}.{plain}"} - {""}

    def place(self) -> str:
        """Place of the set, for a sentence."""
        prefix, keys = self.network.prefix, self.dictionary.keys
        named = f"names that begin with {prefix!r}" if prefix else "all names"
        under = f" under {'.'.join(keys)!r}" if keys else ""
        return f"{named}{under}" if prefix or not keys else f"those{under}"


def choose_weights(
    file: CheckpointFile, *, arch: str | None = None, key: str | None = None
) -> ChosenWeights:
    """Return the weights of the only network in a checkpoint, or of the chosen set.

    Parameters
    ----------
    file
        The checkpoint.
    arch
        Name of the network if it is known already.
    key
        Set of weights to use: the key of its dictionary, the prefix of its names, or both with
        a dot between.

    Raises
    ------
    ValueError
        `arch` is no known name, or there is no set at `key`.
    InputError
        There is no known network, another than `arch`, or several sets of weights and no
        `key`; or weights are no ordinary numbers.
    """
    check_arch(arch)
    sets = [
        _Set(dictionary, network)
        for dictionary in file.dictionaries
        for network in find_networks(dictionary.tensors)
    ]
    if not sets:
        raise InputError(_nothing_known(file))
    chosen = _choose(sets, file, arch, key)
    row = decide(chosen.network, arch=arch, trainer=file.trainer)
    weights, left_out = _split(chosen, [each for each in sets if each is not chosen], file)
    left_out = _grouped(left_out) + _other_dictionaries(chosen, file)
    usual = chosen.dictionary.keys in ((), *((name,) for name in WELL_KNOWN))
    sentences = () if usual and not left_out and key is None else (_sentence(chosen, left_out),)
    return ChosenWeights(row, weights, sentences)


def _nothing_known(file: CheckpointFile) -> str:
    largest = max(file.dictionaries, key=lambda each: len(each.tensors))
    where = f" (under {'.'.join(largest.keys)!r})" if largest.keys else ""
    lone_shard = complain_about_lone_shard(file.path)
    return lone_shard or f"{file.path}{where}: {stranger(largest.tensors)}"


def _choose(sets: list[_Set], file: CheckpointFile, arch: str | None, key: str | None) -> _Set:
    if key is not None:
        label = key.rstrip(".") or key
        found = [each for each in sets if label == each.label]
        found = found or [each for each in sets if label in each.other_labels()]
        if not found:
            raise ValueError(
                f"{file.path} holds no weights of a known network under {key!r}; it has some "
                f"under {_labels(sets)}"
            )
    else:
        fitting = [
            each for each in sets if arch in (None, *(row.name for row in each.network.rows))
        ]
        found = fitting or sets[:1]
    if len(found) > 1:
        places = listing((f"{each.place()} ({_titles(each)})" for each in found), _MOST_SETS_SHOWN)
        raise InputError(
            f"{file.path} holds {len(found)} sets of weights: {places}. Only you know which is "
            f"meant, such as the last or an average over the training; choose with {_labels(found)}"
        )
    return found[0]


def _titles(each: _Set) -> str:
    return " or ".join(row.title for row in each.network.rows)


def _labels(sets: list[_Set]) -> str:
    shown = [f"--weights {shlex.quote(each.label)}" for each in sets[:_MOST_SETS_SHOWN]]
    return " or ".join(shown)


def _split(
    chosen: _Set, others: Sequence[_Set], file: CheckpointFile
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the set's weights under the network's own names, and the rest of its dictionary."""
    prefix, dictionary = chosen.network.prefix, chosen.dictionary
    nested = tuple(
        each.network.prefix
        for each in others
        if each.dictionary is dictionary and len(each.network.prefix) > len(prefix)
    )
    weights: dict[str, torch.Tensor] = {}
    stored_as: dict[str, str] = {}
    left_out = []
    for name, tensor in dictionary.tensors.items():
        inside = name.startswith(prefix) and not (nested and name.startswith(nested))
        if not inside or _is_counter(name, tensor):
            left_out.append(name)
            continue
        own = without_wrappers(name[len(prefix) :])
        if own in weights:
            raise InputError(
                f"{file.path} holds the same weight twice, as {stored_as[own]} and as {name}; save "
                "one state_dict only"
            )
        _check_tensor(tensor, name, file)
        weights[own], stored_as[own] = tensor, name
    return weights, [*left_out, *dictionary.others]


def _is_counter(name: str, tensor: torch.Tensor) -> bool:
    return name.rpartition(".")[2] in _COUNTERS and tensor.numel() == 1


def _check_tensor(tensor: torch.Tensor, name: str, file: CheckpointFile) -> None:
    """Refuse tensors that are no plain arrays of numbers, or claim more data than stored."""
    plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu":
        raise InputError(
            f"{file.path}: {name} is quantised, sparse or without data; save plain weights"
        )
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise InputError(
            f"{file.path}: {name} claims {tuple(tensor.shape)} values but stores fewer"
        )


def _other_dictionaries(chosen: _Set, file: CheckpointFile) -> list[str]:
    """Name other weights of the file, except single numbers, which are training state."""
    return [
        f"all under {'.'.join(each.keys)!r}"
        for each in file.dictionaries
        if each is not chosen.dictionary
        and each.keys
        and any(tensor.numel() > 1 for tensor in each.tensors.values())
    ]


def _sentence(chosen: _Set, left_out: Sequence[str]) -> str:
    if not left_out:
        return f"Weights: {chosen.place()}."
    return f"Weights: {chosen.place()}. Left out, as no part of these: {listing(left_out)}."


def _grouped(names: Iterable[str]) -> list[str]:
    """Return names; those of one kind together, once there are many."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        kind = f"*.{last}" if last in _COUNTERS and last != name else f"{first}.*"
        kinds.setdefault(kind, []).append(name)
    shown: list[str] = []
    for kind, members in kinds.items():
        many = len(members) > _MOST_OF_A_KIND
        shown += [f"{kind} ({len(members)})"] if many else members
    return shown
