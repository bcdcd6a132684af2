"""Reader of weights split over files that an index lists, in Hugging Face's format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from segmaformer.checkpoint.fields import listing, mapping
from segmaformer.checkpoint.files.foreign_files import start_of
from segmaformer.checkpoint.files.one_file import load_document
from segmaformer.checkpoint.json_text import read_json_file
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.system.digest import sha256_of

_INDEX: Final = ".index.json"
_SHARD_NAME: Final = re.compile(r".+-\d{5}-of-\d{5}\.(safetensors|bin|pt|pth)")


def find_index(folder: Path) -> Path:
    """Return the index of the weights in a folder.

    Raises
    ------
    InputError
        The folder has no index, or several; the message names what it has instead.
    """
    found = sorted(path for path in folder.iterdir() if path.name.endswith(_INDEX))
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{folder} holds several sets of weights, {names}; give one of these")
    raise InputError(_folder_complaint(folder))


def _folder_complaint(folder: Path) -> str:
    names = {path.name for path in folder.iterdir()}
    if "manifest.json" in names:
        return f"{folder} is a package already; give it to sgmf infer -m, or give a checkpoint"
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        return (
            f"{folder} is a checkpoint of torch.distributed; make one file of it with "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if "zero_to_fp32.py" in names:
        return f"{folder} is a checkpoint of DeepSpeed; run its zero_to_fp32.py and give the result"
    if "saved_model.pb" in names:
        return f"{folder} is a TensorFlow model; give the PyTorch checkpoint"
    if "data.pkl" in names:
        return f"{folder} is an unpacked checkpoint; give the file that it was unpacked from"
    files = sorted(
        path
        for pattern in ("fold_*/checkpoint_final.pth", "*.safetensors", "*.bin", "*.pt*", "*.ckpt")
        for path in folder.glob(pattern)
    )
    shards = [path.name for path in files if _SHARD_NAME.fullmatch(path.name)]
    if shards:
        return f"{folder} holds {shards[0]} but no {_INDEX[1:]} that lists it; add the index"
    hint = f", for example {files[0]}" if files else ""
    return f"{folder} is a folder; give the checkpoint file itself{hint}"


def is_index(path: Path) -> bool:
    """Tell if a file is an index rather than weights, by its name and by its first byte."""
    if not path.name.endswith(".json"):
        return False
    try:
        return start_of(path).lstrip().startswith(b"{")
    except ValueError:
        return False


def load_shards(index: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Read the tensors of all files that an index lists, and state what could not be checked.

    Raises
    ------
    InputError
        The index is malformed or names a file of another folder, or a file is missing, damaged,
        or holds other names than the index lists.
    """
    weight_map = _weight_map(index)
    expected: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        expected.setdefault(shard, set()).add(name)
    weights: dict[str, torch.Tensor] = {}
    sentences: dict[str, None] = {}
    for shard, names in expected.items():
        found, told = _load_shard(index, shard, names)
        weights |= found
        sentences |= dict.fromkeys(told)
    return weights, tuple(sentences)


def shards_digest(index: Path) -> str:
    """Return the SHA-256 of the output of ``sha256sum INDEX SHARDS``, the shards in name order."""
    names = [index.name, *sorted(set(_weight_map(index).values()))]
    lines = "".join(f"{sha256_of(index.parent / name)}  {name}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def complain_about_lone_shard(path: Path) -> str | None:
    """Describe a file that is one of several, by its name or an index beside it; else None."""
    if not (_SHARD_NAME.fullmatch(path.name) or _is_listed(path)):
        return None
    return f"{path} is one of several files of weights; give their index (*{_INDEX}) or the folder"


def _is_listed(path: Path) -> bool:
    for index in path.absolute().parent.glob(f"*{_INDEX}"):
        try:
            if path.name in _weight_map(index).values():
                return True
        except (InputError, OSError):
            continue
    return False


def _weight_map(index: Path) -> dict[str, str]:
    found = mapping(read_json_file(index), str(index)).get("weight_map")
    if not isinstance(found, Mapping) or not found:
        raise InputError(
            f"{index} is a JSON file without a weight_map, so it is no index of weights; give the "
            "checkpoint"
        )
    for name, shard in found.items():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise InputError(
                f"{index} says that {name} is in {shard!r}; expected the name of a file beside it"
            )
    return dict(found)


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "\0" not in name and not re.search(r"[/\\]", name)


def _load_shard(
    index: Path, shard: str, expected: set[str]
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    path = index.parent / shard
    if not path.is_file():
        raise InputError(f"{index} lists {shard}, which is not beside it; fetch all of its files")
    document, sentences = load_document(path)
    found = document if isinstance(document, Mapping) else {}
    missing = sorted(expected - found.keys())
    surplus = sorted(map(str, found.keys() - expected))
    if missing:
        raise InputError(f"{path} lacks {listing(missing, 5)}, which {index.name} says is in it")
    if surplus:
        raise InputError(f"{path} also has {listing(surplus, 5)}, which {index.name} does not list")
    others = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(f"{path}: {listing(others, 5)} is no tensor")
    return dict(found), sentences
