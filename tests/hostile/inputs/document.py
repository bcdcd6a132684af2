"""The plans.json and dataset.json beside a checkpoint, as texts that no training wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.hostile_input import REFUSED, TAKEN, HostileInput
from hostile.inputs.checkpoint import weights_alone
from support.networks.networks import tiny_dataset_json, tiny_plans

BIG = 10**400
LARGE = 10_000
"""Bytes of a text from which on memory is measured too; that takes as long as the command."""
FULL = "configurations/3d_fullres"
ORGANS = {"background": 0, "anterior": 1, "posterior": 2}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": [3]}


def inputs() -> Iterator[HostileInput]:
    yield HostileInput("as they are", beside({}), _read, TAKEN)
    for labels in _WRONG_LABELS:
        yield _dataset({"labels": labels}, REFUSED)
    for order in _WRONG_ORDERS:
        yield _dataset({"labels": REGIONS, "regions_class_order": order}, REFUSED)
    for channels in _WRONG_CHANNELS:
        yield _dataset({"channel_names": channels}, REFUSED)
    for ending in (3, [], ".exe"):
        yield _dataset({"file_ending": ending}, TAKEN)  # the plans name a reader
    yield _dataset({"labels": {"background": 0, "\x1b[2J": 1, "posterior": 2}}, TAKEN)
    yield _dataset({"name": "x" * 100_000, "numTraining": BIG}, TAKEN)
    for place, value, verdict in _PLANS:
        name = f"plans: {place} {value!r:.40}"
        text = json.dumps(_changed(tiny_plans(), place, value))
        yield _input(name, {"plans.json": text.encode()}, verdict)
    for file in ("plans.json", "dataset.json"):
        for name, text in _TEXTS.items():
            yield _input(f"{file}: {name}", {file: text}, REFUSED)
        for name, make in _PLACES.items():
            yield HostileInput(f"{file}: {name}", beside({}, file, make), _read, REFUSED)


def _input(name: str, texts: dict[str, bytes], verdict: int) -> HostileInput:
    """Read it apart from the command if it may take memory, or is taken and has values."""
    large = any(len(text) >= LARGE for text in texts.values())
    read = _read if large or verdict == TAKEN else None
    return HostileInput(name, beside(texts), read, verdict)


def beside(
    texts: dict[str, bytes], replaced: str = "", make: Callable[[Path], object] = Path.touch
) -> Callable[[Path], Path]:
    """Write a checkpoint of weights alone with its documents, of which some are changed."""

    def write(folder: Path) -> Path:
        given = {"plans.json": tiny_plans(), "dataset.json": tiny_dataset_json()}
        contents = {name: json.dumps(each).encode() for name, each in given.items()} | texts
        for name, content in contents.items():
            if name != replaced:
                (folder / name).write_bytes(content)
        if replaced:
            make(folder / replaced)
        (folder / "model.pth").write_bytes(weights_alone())
        return folder / "model.pth"

    return write


def _read(path: Path) -> None:
    from segmaformer.checkpoint import load_checkpoint

    loaded = load_checkpoint(path)
    assert loaded.tiling.tile == (32, 32, 48)
    assert [label.value for label in loaded.labels] == [0, 1, 2]


def _dataset(changes: dict[str, Any], verdict: int) -> HostileInput:
    text = json.dumps({**tiny_dataset_json(), **changes})
    return _input(f"dataset: {changes!r:.150}", {"dataset.json": text.encode()}, verdict)


def _changed(plans: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    *parents, last = place.split("/")
    target: Any = plans
    for parent in parents:
        target = target[parent]
    target[last] = value
    return plans


def _chain(length: int) -> dict[str, Any]:
    """Chain configurations that each inherit from the next."""
    last = tiny_plans()["configurations"]["3d_fullres"]
    chain = {f"c{index}": {"inherits_from": f"c{index + 1}"} for index in range(length)}
    return {**chain, f"c{length}": last}


_WRONG_LABELS: list[Any] = [
    None,
    [],
    "abc",
    {},
    {"background": 0},
    {"background": 0, "a": -1, "b": 1},
    {"background": 0, "a": 1.5, "b": 2},
    {"background": 0, "a": 1, "b": 1},
    {"background": 0, "a": 1, "b": 3},
    {"background": 0, "a": True, "b": 2},
    {"background": 0, "a": "1", "b": 2},
    {"background": 0, "a": None, "b": 2},
    {"background": 0, "a": {}, "b": 2},
    {"background": 0, "a": [], "b": 2},
    {"background": 0, "a": [[1]], "b": 2},
    {"background": 0, "a": float("nan"), "b": 2},
    {"background": 0, "a": float("inf"), "b": 2},
    {"background": 0, "a": BIG, "b": 2},
    {"background": 0, "a": 1, "b": 2, "c": 3},
    {"a": 1, "b": 2, "c": 3},
    {str(index): index for index in range(70_000)},
    REGIONS,
]
_WRONG_ORDERS: list[Any] = [
    None,
    [],
    [1, 2],
    [1, 1, 2],
    [0, 1, 2],
    [-1, 1, 2],
    [1, 2, 3.5],
    "123",
    [BIG] * 3,
]
_WRONG_CHANNELS: list[Any] = [
    None,
    [],
    "T1",
    {},
    {"1": "T1"},
    {"0": "T1", "2": "T2"},
    {"a": "T1"},
    {"0": "T1", "1": "T2"},
    {str(index): "T1" for index in range(10_000)},
]
_PLANS: list[tuple[str, Any, int]] = [
    (f"{FULL}/spacing", [BIG, 1, 1], REFUSED),
    (f"{FULL}/spacing", [1e308, 1e308, 1e308], REFUSED),
    (f"{FULL}/spacing", [5e-324, 1, 1], REFUSED),
    (f"{FULL}/patch_size", [BIG, 1, 1], REFUSED),
    (f"{FULL}/patch_size", [-32, -32, 48], REFUSED),
    (f"{FULL}/use_mask_for_norm", [], REFUSED),
    (f"{FULL}/use_mask_for_norm", "no", REFUSED),
    (f"{FULL}/use_mask_for_norm", ["false"], REFUSED),
    (f"{FULL}/inherits_from", "3d_fullres", REFUSED),
    (f"{FULL}/inherits_from", ["3d_fullres"], REFUSED),
    (f"{FULL}/inherits_from", {}, REFUSED),
    (f"{FULL}/previous_stage", "3d_lowres", REFUSED),
    (f"{FULL}/preprocessor_name", ["x"], REFUSED),
    (f"{FULL}/resampling_fn_data", {}, REFUSED),
    (f"{FULL}/resampling_fn_data_kwargs", {"order": BIG}, REFUSED),
    (f"{FULL}/resampling_fn_data_kwargs", {"order": 3.0}, REFUSED),
    (f"{FULL}/resampling_fn_data_kwargs", {"is_seg": 0}, REFUSED),
    (f"{FULL}/resampling_fn_data_kwargs", {"separate_z_anisotropy_threshold": BIG}, REFUSED),
    (f"{FULL}/architecture/arch_kwargs/num_heads", [BIG] * 4, REFUSED),
    (f"{FULL}/architecture/arch_kwargs/num_heads", [0, 0, 0, 0], REFUSED),
    (f"{FULL}/architecture/arch_kwargs/num_heads", "1112", REFUSED),
    (f"{FULL}/architecture/arch_kwargs/num_heads", [1.5, 1, 1, 2], REFUSED),
    (f"{FULL}/architecture/arch_kwargs/embed_dims", [10**9] * 4, REFUSED),
    (f"{FULL}/architecture/arch_kwargs/in_channels", BIG, REFUSED),
    (f"{FULL}/architecture/arch_kwargs/patch_stride", [0, 0, 0, 0], REFUSED),
    (f"{FULL}/architecture/arch_kwargs/patch_padding", [10**9] * 4, REFUSED),
    (f"{FULL}/architecture/arch_kwargs/mlp_ratios", [float("nan")] * 4, REFUSED),
    (f"{FULL}/architecture/arch_kwargs/evil\x1b[2J", 1, REFUSED),
    (f"{FULL}/architecture/arch_kwargs", [], REFUSED),
    (f"{FULL}/architecture/network_class_name", "os.system", TAKEN),
    ("configurations", {"3d_fullres": {"inherits_from": "x" * 1_000_000}}, REFUSED),
    ("configurations", {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}, REFUSED),
    ("configurations", _chain(5000), REFUSED),
    ("image_reader_writer", "x" * 1_000_000, REFUSED),
    ("image_reader_writer", "\x1b[2J", REFUSED),
    ("transpose_forward", [0, 1, BIG], REFUSED),
    ("label_manager", ["LabelManager"], REFUSED),
]
_PLAIN = json.dumps(tiny_plans()).encode()
_TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "no object": b"[1, 2]",
    "a number": b"3",
    "a list in lists": b"[" * 100_000,
    "an object in objects": b'{"a":' * 100_000,
    "a number of 10,000 digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "a name twice": b'{"labels": {"a": 1}, "labels": {"a": 0, "b": 1}, ' + _PLAIN[1:],
    "a name twice within": b'{"configurations": {"a": {"spacing": 1, "spacing": 2}}}',
    "no text": b'{"\xff\xfe": 1}',
    "another encoding": "\ufeff{}".encode("utf-16"),
    "cut off": _PLAIN[:-20],
    "a page of HTML": b"<!DOCTYPE html><html></html>",
}


_PLACES: dict[str, Callable[[Path], object]] = {
    "a gigabyte of nothing": lambda path: _sparse(path, 10**9),
}


def _sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)
