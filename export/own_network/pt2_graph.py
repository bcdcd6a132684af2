"""The graph of a program of ``torch.export`` as steps that can be run, each checked as it is read.

Each value is a tensor or a number with a name; a step takes values, and names what it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from segmaformer.export.own_network.pt2_archive import DTYPES, STRIDED
from segmaformer.export.own_network.pt2_operators import find_operator
from segmaformer.runtime.errors import InputError

_NOT_FINITE: Final = {"Infinity": torch.inf, "-Infinity": -torch.inf, "NaN": torch.nan}
_MEMORY_FORMATS: Final = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_WRAPPERS: Final = {
    "torch.ops.higher_order.wrap_with_set_grad_enabled": 1,
    "torch.ops.higher_order.wrap_with_autocast": 4,
}
"""Blocks of a graph within another, and the place of the block among the arguments."""

_ASSERTIONS: Final = "torch.ops.aten._assert_tensor_metadata.default"
"""States types of elements, which the reference in float64 changes."""


@dataclass(frozen=True)
class _Value:
    """A value that an earlier step computed."""

    name: str


@dataclass(frozen=True)
class _Step:
    """A call: of a function, or of a block of steps."""

    call: Callable[..., Any] | Block
    args: list[Any]
    kwargs: dict[str, Any]
    results: Any
    spent: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """Steps in order.

    Attributes
    ----------
    inputs, outputs
        Names of the values that it takes and gives.
    steps
        Calls in order.
    """

    inputs: tuple[str, ...]
    steps: tuple[_Step, ...]
    outputs: tuple[str, ...]

    def run(self, arguments: Sequence[Any], precision: torch.dtype) -> list[Any]:
        """Compute the outputs; where the program says float32, `precision` is meant."""
        values = dict(zip(self.inputs, arguments, strict=True))
        for step in self.steps:
            args = _filled(step.args, values, precision)
            if isinstance(step.call, Block):
                result = step.call.run(args, precision)
            else:
                result = step.call(*args, **_filled(step.kwargs, values, precision))
            _keep(step.results, result, values)
            for name in step.spent:
                del values[name]
        return [values[name] for name in self.outputs]


def _filled(value: Any, values: dict[str, Any], precision: torch.dtype) -> Any:
    """Put computed values in the place of their names, and the type of the tiles in float32's."""
    if isinstance(value, _Value):
        return values[value.name]
    if isinstance(value, list):
        return [_filled(each, values, precision) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, values, precision) for key, each in value.items()}
    return precision if value is torch.float32 else value


def _keep(names: Any, result: Any, values: dict[str, Any]) -> None:
    """Store results by name; None stands for one that is not used."""
    if isinstance(names, str):
        values[names] = result
    elif names is not None:
        for name, each in zip(names, result, strict=True):
            _keep(name, each, values)


def tensor_name(argument: dict[str, Any]) -> str:
    """Return the name of an input or output, which must be a tensor."""
    if "as_tensor" not in argument:
        raise InputError(f"it takes or gives {next(iter(argument))!s:.40}; expected tensors")
    return str(argument["as_tensor"]["name"])


def read_block(inputs: tuple[str, ...], nodes: list[dict[str, Any]], outputs: list[str]) -> Block:
    """Check the nodes of a graph and bring them into steps, each value freed after its last use."""
    known, calls = set(inputs), []
    for node in nodes:
        if node["target"] == _ASSERTIONS:
            continue
        call, args, kwargs = _read_call(node)
        results = [_result(each) for each in node["outputs"]]
        if len(results) == 1 and not isinstance(call, Block):
            results = results[0]
        used = {value.name for value in _values([args, kwargs])}
        if used - known:
            raise InputError(f"it uses {min(used - known)!r:.80} before it is computed")
        made = _names(results)
        if len(set(made)) < len(made) or known & set(made):
            raise InputError(f"it computes a value twice in {node['target']!r:.80}")
        known.update(made)
        calls.append((call, args, kwargs, results))
    if missing := set(outputs) - known:
        raise InputError(f"it gives {min(missing)!r:.80}, which is not computed")
    return Block(inputs, _freeing(calls, {*inputs, *outputs}), tuple(outputs))


def _freeing(calls: list[tuple[Any, ...]], kept: set[str]) -> tuple[_Step, ...]:
    """Say after each call which values no later one uses."""
    steps = []
    for call, args, kwargs, results in reversed(calls):
        touched = {value.name for value in _values([args, kwargs])} | set(_names(results))
        steps.append(_Step(call, args, kwargs, results, tuple(sorted(touched - kept))))
        kept |= touched
    return tuple(reversed(steps))


def _read_call(
    node: dict[str, Any],
) -> tuple[Callable[..., Any] | Block, list[Any], dict[str, Any]]:
    target = node["target"]
    if target in _WRAPPERS:
        return _read_wrapper(node["inputs"], _WRAPPERS[target], target)
    function, schema = find_operator(target)
    if schema is None:
        return function, [_decoded(each["arg"]) for each in node["inputs"]], {}
    given = {each["name"]: _decoded(each["arg"]) for each in node["inputs"]}
    if given.get("train") is True or given.get("training") is True:
        raise InputError(
            f"it calls {target} as in training; call module.eval() before torch.export.export, and "
            "let norms track statistics"
        )
    args = []
    for argument in schema.arguments:
        if argument.kwarg_only or argument.name not in given:
            break
        args.append(given.pop(argument.name))
    if unknown := given.keys() - {argument.name for argument in schema.arguments}:
        raise InputError(f"it gives {target} the argument {min(unknown)!r:.80}, which it has not")
    return function, args, given


def _read_wrapper(
    inputs: list[dict[str, Any]], place: int, target: str
) -> tuple[Block, list[Any], dict[str, Any]]:
    """Read a block that ran without gradients, or outside autocast."""
    arguments = [each["arg"] for each in inputs]
    if place > 1 and arguments[place - 2] != {"as_bool": False}:
        raise InputError("it computes in half precision (autocast); export it without autocast")
    graph = arguments[place]["as_graph"]["graph"]
    names = tuple(tensor_name(each) for each in graph["inputs"])
    block = read_block(names, graph["nodes"], [tensor_name(each) for each in graph["outputs"]])
    given = [_decoded(each) for each in arguments[place + 1 :]]
    if len(given) != len(names):
        raise InputError(f"it gives {target} {len(given)} values; expected {len(names)}")
    return block, given, {}


def _result(output: dict[str, Any]) -> Any:
    """Name of what a call gives, a list of names of a list, or None of what no step can use."""
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return [str(each["name"]) for each in value]
    if kind == "as_tensor":
        return str(value["name"])
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return str(value["as_name"]) if "as_name" in value else None
    if kind in ("as_none", "as_int", "as_float", "as_bool"):
        return None
    raise InputError(f"it computes {kind!s:.40}; expected tensors and numbers")


_PLAIN: Final = {
    "as_int": int,
    "as_float": float,
    "as_bool": bool,
    "as_string": str,
}
_LISTS: Final = {
    "as_tensors": "as_tensor",
    "as_ints": "as_int",
    "as_floats": "as_float",
    "as_bools": "as_bool",
    "as_strings": "as_string",
    "as_sym_ints": "as_sym_int",
    "as_sym_floats": "as_sym_float",
    "as_sym_bools": "as_sym_bool",
    "as_optional_tensors": "as_optional_tensor",
}
"""Kinds of arguments that are lists, and the kind of what is in them."""


def _decoded(argument: dict[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    if kind in _LISTS:
        return [_decoded({_LISTS[kind]: each}) for each in value]
    if kind in _PLAIN:
        return _plain(value, _PLAIN[kind])
    if kind == "as_tensor":
        return _Value(str(value["name"]))
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"):
        ((form, content),) = value.items()
        return _Value(str(content)) if form == "as_name" else _decoded(value)
    if kind == "as_scalar_type":
        return DTYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_layout" and value == STRIDED:
        return torch.strided
    if kind == "as_device":
        return torch.device("cpu")
    if kind == "as_none":
        return None
    raise InputError(f"it passes {kind!s:.40} to an operator; expected tensors and numbers")


def _plain(value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, str):
        return _NOT_FINITE[value]
    if not isinstance(value, (int, float) if kind is float else kind):
        raise InputError(f"it passes {value!r:.40} as {kind.__name__} to an operator")
    return value


def _values(argument: Any) -> Iterator[_Value]:
    """Values within an argument, however it is nested."""
    if isinstance(argument, _Value):
        yield argument
    elif isinstance(argument, list | dict):
        for each in argument.values() if isinstance(argument, dict) else argument:
            yield from _values(each)


def _names(results: Any) -> list[str]:
    """Names within the results of a call."""
    if isinstance(results, list):
        return [name for each in results for name in _names(each)]
    return [] if results is None else [results]
