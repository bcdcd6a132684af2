"""Reader of files of trained weights; nothing that they contain is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from segmaformer.checkpoint.fields import integers
from segmaformer.checkpoint.files.one_file import load_document
from segmaformer.checkpoint.files.shards import find_index, is_index, load_shards, shards_digest
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.system.digest import sha256_of

_DEEPEST = 4
_MOST_DICTIONARIES = 10_000


@dataclass(frozen=True, eq=False)
class WeightDictionary:
    """A dictionary of the file that has tensors in it.

    Attributes
    ----------
    keys
        Keys that lead to it from the top of the file; empty for the top itself.
    tensors
        Tensors by name, as stored.
    others
        Names of the entries that are no tensors.
    """

    keys: tuple[str, ...]
    tensors: dict[str, torch.Tensor]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """Content of a checkpoint file, before its network is known.

    Attributes
    ----------
    path
        The file that was read; the index if the weights are in several files.
    sha256
        Hexadecimal digest of the whole file; see
        :func:`segmaformer.checkpoint.files.shards.shards_digest` for several.
    dictionaries
        All dictionaries with tensors in them, the outer ones first.
    trainer
        Name of the nnU-Net trainer, or None.
    init_args
        Arguments that nnU-Net built the trainer from: ``plans``, ``configuration``,
        ``dataset_json`` and others; empty for other files.
    mirror_axes
        Axes that nnU-Net allows test-time mirroring on; None if not recorded.
    assumptions
        Sentences on facts that could not be checked.
    """

    path: Path
    sha256: str
    dictionaries: tuple[WeightDictionary, ...]
    trainer: str | None = None
    init_args: Mapping[str, Any] = field(default_factory=dict)
    mirror_axes: tuple[int, ...] | None = None
    assumptions: tuple[str, ...] = ()


def read_checkpoint_file(path: str | Path) -> CheckpointFile:
    """Read an nnU-Net, Lightning or bare state_dict file, or safetensors, whole or in shards.

    Parameters
    ----------
    path
        The checkpoint file, recognised by its first bytes; or the index of several files, or the
        folder of an index.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    InputError
        The file is no checkpoint, is damaged, would run code, or has no tensors.
    MissingExtraError
        The file is in safetensors' format, and the safetensors package is not installed.
    """
    path = Path(path)
    if path.is_dir():
        path = find_index(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if is_index(path):
        weights, sentences = load_shards(path)
        return CheckpointFile(
            path,
            shards_digest(path),
            (WeightDictionary((), weights),),
            assumptions=sentences,
        )
    document, sentences = load_document(path)
    if not isinstance(document, Mapping):
        raise InputError(
            f"{path} holds a {type(document).__name__}; expected a state_dict, or a dictionary "
            "with one in it"
        )
    return CheckpointFile(
        path=path,
        sha256=sha256_of(path),
        dictionaries=_dictionaries(document, path),
        trainer=_optional(document, "trainer_name", str, path),
        init_args=_optional(document, "init_args", Mapping, path) or {},
        mirror_axes=_mirror_axes(document, path),
        assumptions=sentences,
    )


def _dictionaries(document: Mapping[Any, Any], path: Path) -> tuple[WeightDictionary, ...]:
    """Return dictionaries of `document` that hold tensors under text, each once, breadth first."""
    found = []
    seen = {id(document)}
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), document)]
    for keys, candidate in waiting:  # the list grows meanwhile
        entries = [(key, value) for key, value in candidate.items() if isinstance(key, str)]
        tensors = {key: value for key, value in entries if isinstance(value, torch.Tensor)}
        if tensors:
            others = tuple(key for key, _ in entries if key not in tensors)
            found.append(WeightDictionary(keys, tensors, others))
        for key, value in entries:
            if isinstance(value, Mapping) and len(keys) < _DEEPEST and id(value) not in seen:
                seen.add(id(value))
                waiting.append(((*keys, key), value))
        if len(waiting) > _MOST_DICTIONARIES:
            raise InputError(
                f"{path} holds more than {_MOST_DICTIONARIES} dictionaries; save the weights alone"
            )
    if not found:
        raise InputError(
            f"{path} holds no weights: expected tensors, or a dictionary of tensors under any key; "
            f"found {_some(document)}"
        )
    return tuple(found)


def _some(document: Mapping[Any, Any]) -> str:
    names = [repr(key) for key in document]
    return (", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) or "an empty dictionary"


def _optional(document: Mapping[Any, Any], key: str, kind: type, path: Path) -> Any:
    value = document.get(key)
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{path}: {key} is a {type(value).__name__}; expected a {kind.__name__}")
    return value


def _mirror_axes(document: Mapping[Any, Any], path: Path) -> tuple[int, ...] | None:
    value = document.get("inference_allowed_mirroring_axes")
    if value is None:
        # nnU-Net writes None for "no mirroring"; other programs do not write the key at all
        return () if "inference_allowed_mirroring_axes" in document else None
    axes = integers(value, f"{path}: inference_allowed_mirroring_axes")
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        raise InputError(
            f"{path}: inference_allowed_mirroring_axes is {axes}; expected some of 0, 1 and 2, "
            "each once"
        )
    return axes
