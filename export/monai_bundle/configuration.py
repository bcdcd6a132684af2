"""Configurations of a bundle, read as plain data.

No expression is evaluated and nothing that a configuration names is imported. References to values
are followed; of the expressions (``$...``) only those of a fixed table are understood.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmaformer.checkpoint.fields import mapping
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.system.extras import require_extra

METADATA = "configs/metadata.json"
_INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_WEIGHTS = "models/model.pt"

_REFERENCE = re.compile(r"@([A-Za-z_][\w:#]*)")
_NEGATION = re.compile(r"\$\s*not\s+(@[A-Za-z_][\w:#]*)")
_EXPRESSIONS: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"\$torch\.device\(.*\)", re.DOTALL), "device"),
    (re.compile(r"\$(?:torch|np|numpy)\.float(?:32)?"), "float32"),
    (re.compile(r"\$(?:torch|np|numpy)\.(?:float64|double)"), "float64"),
    (re.compile(r"\$lambda (\w+): \1 > 0"), "positive"),
    (re.compile(r"\$None"), None),
    (re.compile(r"\$True"), True),
    (re.compile(r"\$False"), False),
)
_MOST_REFERENCES = 20
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Component:
    """An object that a configuration describes.

    Attributes
    ----------
    name
        Name of the class alone, for MONAI's classes; the whole ``_target_`` for others.
    arguments
        Arguments as they are written; :meth:`Configuration.value` resolves them.
    where
        Place in the configuration, for messages.
    """

    name: str
    arguments: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class Configuration:
    """The bundle's inference configuration.

    Attributes
    ----------
    file
        Name of its file, for messages.
    entries
        Its values by their ids.
    """

    file: str
    entries: Mapping[str, Any]

    def value(self, written: Any, where: str) -> Any:
        """Resolve references and known expressions, in lists and dictionaries too.

        Raises
        ------
        InputError
            An expression is none of the known ones, or a reference leads nowhere.
        """
        return self._resolved(written, where, _MOST_REFERENCES)

    def component(self, written: Any, where: str) -> Component | None:
        """Return the described object; None if it is disabled.

        Raises
        ------
        InputError
            There is no ``_target_``, or a keyword such as ``_requires_`` that is not understood.
        """
        entry = dict(mapping(self._followed(written, where, _MOST_REFERENCES), where))
        target = entry.pop("_target_", None)
        if not isinstance(target, str):
            raise InputError(f"{self.file}: {where} has no _target_; expected a class of MONAI")
        entry.pop("_desc_", None)
        disabled = self.value(entry.pop("_disabled_", False), f"{where}._disabled_")
        if not isinstance(disabled, bool):
            raise InputError(f"{self.file}: {where}._disabled_ is {disabled!r}; expected a boolean")
        if disabled:
            return None
        if unknown := sorted(key for key in entry if key.startswith("_")):
            raise InputError(
                f"{self.file}: {where} has {unknown[0]}, which is not understood; remove it"
            )
        return Component(_class_name(target), entry, where)

    def _resolved(self, written: Any, where: str, left: int) -> Any:
        found = self._followed(written, where, left)
        if isinstance(found, Mapping):
            return {
                key: self._resolved(each, f"{where}.{key}", left) for key, each in found.items()
            }
        if isinstance(found, list):
            return [self._resolved(each, f"{where}[{i}]", left) for i, each in enumerate(found)]
        return found

    def _followed(self, written: Any, where: str, left: int) -> Any:
        """Return the value that a reference or a known expression stands for, else `written`."""
        if not isinstance(written, str):
            return written
        if left == 0:
            raise InputError(f"{self.file}: {where} refers to itself")
        if reference := _REFERENCE.fullmatch(written):
            return self._followed(self._at(reference[1], where), where, left - 1)
        if negation := _NEGATION.fullmatch(written):
            value = self._followed(negation[1], where, left - 1)
            if isinstance(value, bool):
                return not value
        for pattern, value in _EXPRESSIONS:
            if pattern.fullmatch(written):
                return value
        if written.startswith(("$", "%")):
            raise InputError(
                f"{self.file}: {where} is the expression {reprlib.repr(written)}, which is not "
                "evaluated; write its value there"
            )
        return written

    def _at(self, path: str, where: str) -> Any:
        value: Any = self.entries
        for key in re.split(r"::|#", path):
            if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, Mapping) and key in value:
                value = value[key]
            else:
                raise InputError(f"{self.file}: {where} refers to @{path}, which is not there")
        return value


@dataclass(frozen=True)
class Bundle:
    """Files of a bundle: its metadata, its inference configuration and its weights."""

    metadata: Mapping[str, Any]
    inference: Configuration
    weights: Path


def is_bundle(path: Path) -> bool:
    """Tell if a path is a folder with the metadata of a MONAI bundle."""
    return (path / METADATA).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Read the configurations of a bundle; its scripts are not looked at.

    Raises
    ------
    InputError
        A file is missing or malformed.
    MissingExtraError
        The configuration is YAML and PyYAML is not installed.
    """
    inference = next((folder / name for name in _INFERENCE if (folder / name).is_file()), None)
    if inference is None:
        raise InputError(f"{folder} has no {_INFERENCE[0]} or {_INFERENCE[1]}; expected one")
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise InputError(
            f"{folder} has no {_WEIGHTS}; download the bundle's weights, such as with "
            "python -m monai.bundle download"
        )
    metadata = _read_document(folder / METADATA)
    return Bundle(metadata, Configuration(inference.name, _read_document(inference)), weights)


def _read_document(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(
            f"{path.name} has more than {_MOST_BYTES >> 20} MiB; expected a small file"
        )
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error
    return mapping(document, path.name)


def _yaml(text: str) -> Any:
    require_extra("yaml", extra="monai")
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _class_name(target: str) -> str:
    """Return the name of a class alone if it is one of MONAI's, or has no module."""
    module, _, name = target.rpartition(".")
    return name if module.split(".")[0] in ("", "monai") else target
