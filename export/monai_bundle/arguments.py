"""Arguments of a bundle's transforms, each taken by name and checked."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from segmaformer.checkpoint.fields import listing, number
from segmaformer.export.monai_bundle.configuration import Component, Configuration
from segmaformer.runtime.errors import InputError

_DICTIONARY_FORM = re.compile(r"(?<=[a-z])(?:d|D|Dict)$")


class Transform:
    """A transform of a bundle, and its arguments.

    Attributes
    ----------
    name
        Name of the class in its array form, such as ``Spacing`` for ``Spacingd``.
    where
        Place in the configuration, for messages.
    """

    def __init__(self, component: Component, configuration: Configuration):
        self.name = _DICTIONARY_FORM.sub("", component.name)
        self.where = f"{component.where} ({component.name})"
        self._configuration = configuration
        self._left: dict[str, Any] = dict(component.arguments)

    def refused(self, complaint: str) -> InputError:
        """Return the error that names this transform."""
        return InputError(f"{self._configuration.file}: {self.where} {complaint}")

    def take(self, name: str, default: Any = None) -> Any:
        """Take the value of an argument, or its default."""
        if name not in self._left:
            return default
        return self._configuration.value(self._left.pop(name), f"{self.where}.{name}")

    def written(self, name: str) -> Any:
        """Take an argument as it is written, with no reference resolved."""
        return self._left.pop(name, None)

    def number(self, name: str) -> float:
        """Take a number."""
        return number(self.take(name), f"{self.where}.{name}")

    def flag(self, name: str, default: bool = False) -> bool:
        """Take true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.refused(f"has {name} {reprlib.repr(value)}; expected true or false")
        return value

    def key(self, name: str = "keys") -> str | None:
        """Take the one key that the transform works on; None if it has none."""
        keys = self.take(name)
        one = keys[0] if isinstance(keys, list) and len(keys) == 1 else keys
        if one is not None and not isinstance(one, str):
            raise self.refused(f"has {name} {reprlib.repr(keys)}; expected the key of one image")
        return one

    def expect(self, name: str, *allowed: Any) -> None:
        """Take an argument that is left out or has one of some values."""
        if name not in self._left:
            return
        value = self.take(name)
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not any(one == each and type(one) is type(each) for each in (*allowed, None)):
            known = " or ".join(map(repr, allowed)) or "none"
            raise self.refused(
                f"has {name} {reprlib.repr(value)}; only {known} can be honoured exactly"
            )

    def ignore(self, *names: str) -> None:
        """Drop arguments that change no voxel, whatever they are."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse arguments that nothing took."""
        self.ignore("allow_missing_keys")
        self.expect("lazy", False)
        if self._left:
            raise self.refused(
                f"has the arguments {listing(sorted(self._left))}, which are unknown"
            )


def transforms(written: Any, where: str, configuration: Configuration) -> Iterator[Transform]:
    """Return the transforms of a ``Compose``, or the single one, without disabled ones.

    Raises
    ------
    InputError
        An entry is no description of a transform.
    """
    component = configuration.component(written, where)
    if component is None:
        return
    if component.name != "Compose":
        yield Transform(component, configuration)
        return
    entries: Mapping[str, Any] = component.arguments
    if unknown := sorted(entries.keys() - {"transforms"}):
        raise InputError(
            f"{configuration.file}: {where} (Compose) has {listing(unknown)}; expected transforms "
            "alone"
        )
    listed = entries.get("transforms")
    if not isinstance(listed, list):
        found = reprlib.repr(listed)
        raise InputError(
            f"{configuration.file}: {where}.transforms is {found}; expected a list, written out"
        )
    for index, each in enumerate(listed):
        yield from transforms(each, f"{where}.transforms[{index}]", configuration)
