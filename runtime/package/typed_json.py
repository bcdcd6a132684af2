"""Conversion of JSON to frozen dataclasses, with the annotations as the schema.

Every value is checked against the annotation of its field, and a wrong value is named by its place,
such as ``manifest.tiling.tile[2]``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
import types
import typing
from typing import Any, Literal, NoReturn, TypeVar

from segmaformer.runtime.errors import PackageError

Record = TypeVar("Record")

_NAMES = {int: "an integer", str: "a text", bool: "true or false"}


def load_json(text: str | bytes, name: str) -> Any:
    """Read strict JSON: no key twice in an object, every number finite.

    Raises
    ------
    PackageError
        The text has another form; `name` is its name in the message.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{name} is not JSON: {error}") from None


def load_json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Read strict JSON of one object, with the errors of :func:`load_json`."""
    document = load_json(text, name)
    if not isinstance(document, dict):
        raise PackageError(f"{name} holds {_shown(document)}; expected one JSON object")
    return document


def build(
    kind: type[Record], document: dict[str, Any], where: str, *, ignore_unknown: bool
) -> Record:
    """Convert a JSON object to the dataclass `kind`.

    Parameters
    ----------
    kind
        Dataclass with fields of dataclasses, tuples, dictionaries with text keys, unions with
        None, literals, int, float, str, bool and Any.
    document
        Object from :func:`load_json_object`.
    where
        Name of the object in messages.
    ignore_unknown
        Whether to ignore fields that `kind` does not have.

    Raises
    ------
    PackageError
        A field is missing, unknown or of the wrong type.
    """
    record: Record = _Builder(ignore_unknown).build(kind, document, where)
    return record


def build_value(kind: Any, value: Any, where: str) -> Any:
    """Convert a value inside a document, with the errors of :func:`build`."""
    return _Builder(ignore_unknown=False).build(kind, value, where)


@dataclasses.dataclass(frozen=True)
class _Builder:
    """Recursive converter of a value by its annotation."""

    ignore_unknown: bool

    def build(self, kind: Any, value: Any, where: str) -> Any:
        origin = typing.get_origin(kind)
        if dataclasses.is_dataclass(kind):
            return self._record(kind, value, where)
        # A union of a Literal and None has the type of typing's.
        if origin in (types.UnionType, typing.Union):
            return self._optional(kind, value, where)
        if origin is dict:
            return self._mapping(kind, value, where)
        if origin is tuple:
            return self._tuple(kind, value, where)
        return _scalar(kind, value, where)

    def _record(self, kind: Any, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            _refuse(where, value, "an object")
        fields = {entry.name: entry for entry in dataclasses.fields(kind)}
        unknown = sorted(set(value) - set(fields))
        if unknown and not self.ignore_unknown:
            raise PackageError(f"{where} has unknown fields: {', '.join(map(_name, unknown))}")
        missing = [name for name, entry in fields.items() if name not in value and _needed(entry)]
        if missing:
            raise PackageError(f"{where} lacks {', '.join(missing)}")
        hints = typing.get_type_hints(kind)
        given = [name for name in fields if name in value]
        return kind(
            **{name: self.build(hints[name], value[name], f"{where}.{name}") for name in given}
        )

    def _optional(self, kind: Any, value: Any, where: str) -> Any:
        if value is None:
            return None
        (inner,) = (part for part in typing.get_args(kind) if part is not type(None))
        return self.build(inner, value, where)

    def _mapping(self, kind: Any, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            _refuse(where, value, "an object")
        _, item_kind = typing.get_args(kind)
        return {
            key: self.build(item_kind, item, f"{where}.{_name(key)}") for key, item in value.items()
        }

    def _tuple(self, kind: Any, value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            _refuse(where, value, "a list")
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(kinds) != len(value):
            _refuse(where, value, f"{len(kinds)} entries")
        return tuple(
            self.build(item_kind, item, f"{where}[{index}]")
            for index, (item_kind, item) in enumerate(zip(kinds, value, strict=True))
        )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if typing.get_origin(kind) is Literal:
        known = typing.get_args(kind)
        return value if value in known else _refuse(where, value, f"one of {', '.join(known)}")
    if kind is float:
        return _number(value, where)
    # bool is an int to isinstance, and true is no number of voxels.
    return value if type(value) is kind else _refuse(where, value, _NAMES[kind])


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float):
        _refuse(where, value, "a number")
    try:
        return float(value)
    except OverflowError:
        _refuse(where, value, "a number of ordinary size")


def _needed(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in document if keys.count(key) > 1)
        raise ValueError(f"the key {_name(twice)} stands twice in one object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{_shown(digits)} is beyond the range of numbers")
    return number


def _refuse(where: str, found: Any, expected: str) -> NoReturn:
    raise PackageError(f"{where} is {_shown(found)}; expected {expected}")


def _name(key: str) -> str:
    return key if key.isidentifier() else _shown(key)


def _shown(value: Any) -> str:
    """Return `value` on one line, without control characters and shortened."""
    return reprlib.repr(value)
