"""Checkpoints, weights and plans that no training has, through ``sgmf export``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from hostile.hostile_input import TAKEN, HostileInput
from hostile.inputs import checkpoint, plans, safetensors
from hostile.inputs.checkpoint import weights_alone

OUTPUT = ("-o", "{out}/model.sgmf")


def inputs() -> Iterator[HostileInput]:
    """Yield the refused inputs of other kinds: what is taken is exported elsewhere."""
    for kind in (checkpoint, safetensors):
        for each in kind.inputs():
            if each.verdict != TAKEN and each.read is not None:
                yield _exported(each, "export", "{path}", *OUTPUT)
    for each in plans.inputs():
        if each.verdict != TAKEN:
            arguments = ("export", "{path}.pth", "--plans", "{path}", *OUTPUT)
            yield _exported(_with_weights(each), *arguments)


def _exported(each: HostileInput, *command: str) -> HostileInput:
    return dataclasses.replace(each, read=None, command=command)


def _with_weights(each: HostileInput) -> HostileInput:
    """Write weights beside the plans."""

    def write(folder: Path) -> Path:
        path = each.write(folder)
        path.with_name(f"{path.name}.pth").write_bytes(weights_alone())
        return path

    return dataclasses.replace(each, name=f"plans: {each.name}", write=write)
