"""Checkpoints, weights and plans that no training has, through ``sgmf export``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import checkpoint_inputs
import plans_inputs
import safetensors_inputs
from checkpoint_inputs import weights_alone
from hostile_input import TAKEN, HostileInput

OUTPUT = ("-o", "{out}/model.sgmf")


def inputs() -> Iterator[HostileInput]:
    """Yield the refused inputs of other kinds: what is taken is exported elsewhere."""
    for kind in (checkpoint_inputs, safetensors_inputs):
        for each in kind.inputs():
            if each.verdict != TAKEN and each.read is not None:
                yield _exported(each, "export", "{path}", *OUTPUT)
    for each in plans_inputs.inputs():
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
