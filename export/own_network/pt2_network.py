"""A network that ``torch.export.save`` wrote, as a module that runs its checked operators in order.

Only the operators of :mod:`segmaformer.export.own_network.pt2_operators` run. Expressions of
free sizes are not evaluated: the operators compute sizes from the tile, as they do in PyTorch.
"""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from segmaformer.export.own_network.pt2_archive import DTYPES, read_program, refusing
from segmaformer.export.own_network.pt2_graph import Block, read_block, tensor_name
from segmaformer.runtime.errors import InputError

_FLOAT32: Final = 7
_SYMBOL: Final = re.compile(r"(?:Symbol\('(\w+)'[^()]*\)|(\w+))")
_CONDITION_ON_BATCH: Final = re.compile(r"(size\(\)|shape)\[0\]")


class ProgramNetwork(nn.Module):
    """A program as a module.

    Parameters
    ----------
    block
        Its steps. The inputs are `tensors` in their order, and then the tiles.
    tensors
        Parameters, buffers and constants by their name in the module.
    parameters
        Names of those that are parameters.
    free_batch
        Whether it takes any batch, or one tile alone.
    """

    def __init__(
        self,
        block: Block,
        tensors: dict[str, torch.Tensor],
        parameters: frozenset[str],
        free_batch: bool,
    ):
        super().__init__()
        self._block, self._names, self._free_batch = block, tuple(tensors), free_batch
        for name, tensor in tensors.items():
            _register(self, name, tensor, name in parameters)

    def forward(self, tiles: torch.Tensor) -> list[Any]:
        """(B, C, D, H, W) -> all outputs of the program.

        Raises
        ------
        InputError
            It takes one tile alone, and `tiles` are several.
        """
        if not self._free_batch and tiles.shape[0] != 1:
            raise InputError("the program was exported for a batch of one")
        lifted = [reduce(getattr, name.split("."), self) for name in self._names]
        return self._block.run([*lifted, tiles], tiles.dtype)


def _register(module: nn.Module, name: str, tensor: torch.Tensor, is_parameter: bool) -> None:
    """Register a tensor under a dotted name, in modules that hold nothing else."""
    *folders, last = name.split(".")
    for folder in folders:
        if folder not in dict(module.named_children()):
            module.add_module(folder, nn.Module())
        module = module.get_submodule(folder)
    if is_parameter and tensor.is_floating_point():
        module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    else:
        module.register_buffer(last, tensor)


def read_pt2_network(path: Path, input_shape: tuple[int, int, int, int]) -> ProgramNetwork:
    """Read a ``.pt2`` file as a network for tiles of one size, without running anything in it.

    Parameters
    ----------
    path
        The file.
    input_shape
        Channels, depth, height and width of a tile, which it must have been exported for.

    Raises
    ------
    InputError
        The file cannot be taken, as :func:`segmaformer.export.own_network.pt2_archive.
        read_program` says; it calls an operator that is not permitted, was exported in training
        mode, or for another input.
    """
    file = read_program(path)
    with refusing(path):
        module = file.program["graph_module"]
        signature, graph = module["signature"], module["graph"]
        _refuse_changes(signature["output_specs"])
        lifted, tiles = _inputs(signature["input_specs"])
        free_batch = _check_tiles(graph["tensor_values"][tiles], file.program, input_shape)
        outputs = [tensor_name(each) for each in graph["outputs"]]
        block = read_block((*lifted, tiles), graph["nodes"], outputs)
        tensors = {fqn: file.tensors[fqn] for fqn, _ in lifted.values()}
        if len(tensors) != len(lifted):
            raise InputError("it names a weight twice")
        parameters = frozenset(fqn for fqn, is_parameter in lifted.values() if is_parameter)
        return ProgramNetwork(block, tensors, parameters, free_batch)


def _refuse_changes(specs: list[dict[str, Any]]) -> None:
    changes = {kind for spec in specs for kind in spec} - {"user_output"}
    if changes:
        raise InputError(
            f"its outputs are of the kind {', '.join(sorted(changes))}; expected logits alone. "
            "Call module.eval() before torch.export.export, and keep no state"
        )


def _inputs(specs: list[dict[str, Any]]) -> tuple[dict[str, tuple[str, bool]], str]:
    """Return tensors that are lifted out of the module, by the name of their input, and the tiles.

    Each lifted tensor has its name in the module and whether it is a parameter.
    """
    lifted: dict[str, tuple[str, bool]] = {}
    users = []
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind == "user_input":
            users.append(tensor_name(value["arg"]))
        elif kind in ("parameter", "buffer", "tensor_constant"):
            lifted[value["arg"]["name"]] = (value[f"{kind}_name"], kind == "parameter")
        elif kind != "constant_input":
            raise InputError(f"it takes a {kind:.40}; expected tensors alone")
    if len(users) != 1:
        raise InputError(f"it takes {len(users)} tensors; expected one, of tiles")
    return lifted, users[0]


def _check_tiles(
    meta: dict[str, Any], program: dict[str, Any], expected: tuple[int, int, int, int]
) -> bool:
    """Refuse another input than the use states, and say whether the batch is free.

    A size that is free still counts as the one of the example: what was decided from it at export
    is known to hold for that alone.
    """
    sizes = [each.get("as_int") or each["as_expr"]["hint"]["as_int"] for each in meta["sizes"]]
    if meta["dtype"] != _FLOAT32 or tuple(sizes[1:]) != expected:
        raise InputError(
            f"it was exported with {DTYPES.get(meta['dtype'])} tiles of {tuple(sizes[1:])}; its "
            f"use states torch.float32 of {expected}. Export it with such an example, or give the "
            "plans of its training"
        )
    batch = meta["sizes"][0]
    if "as_int" in batch:
        if batch["as_int"] != 1:
            raise InputError(
                f"it takes {batch['as_int']} tiles at a time; export it with a batch of one, or "
                "with dynamic_shapes={'x': {0: torch.export.Dim('batch')}}"
            )
        return False
    symbol = _SYMBOL.fullmatch(batch["as_expr"]["expr_str"])
    bounds = program["range_constraints"].get(symbol and (symbol[1] or symbol[2]), {})
    conditions = [
        text for text in program.get("guards_code", ()) if _CONDITION_ON_BATCH.search(text)
    ]
    # A least of 2 is PyTorch's word for any size: it tells apart only what is known to be 0 or 1.
    if symbol is None or (bounds.get("min_val") or 0) > 2 or conditions:
        raise InputError(
            "it was exported with conditions on the batch, which one tile may not meet; export it "
            "with a batch of one"
        )
    return True
