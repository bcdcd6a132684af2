"""Checks of the places of results: none replaces a scan, another result or work by hand."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import click


class Planned(Protocol):
    """Scan whose results have places."""

    @property
    def scan(self) -> tuple[Path, ...]:
        """Files that are read."""
        ...

    @property
    def label_map(self) -> Path:
        """The label map."""
        ...

    @property
    def record(self) -> Path:
        """Record beside the label map."""
        ...

    @property
    def written(self) -> list[Path]:
        """Every file that will be written."""
        ...


class Places:
    """Resolved places of the files of planned scans.

    Each folder is read once, since a batch has many files in few. Links that form a circle are no
    error.
    """

    def __init__(self, planned: Sequence[Planned]):
        self._folder = functools.cache(_Folder)
        self._planned = planned
        self._scans = {self._place(path) for each in planned for path in each.scan}
        self._results = Counter(self._place(path) for each in planned for path in each.written)

    def refuse_collisions(self) -> None:
        """Refuse results in the place of a scan or of one another.

        Raises
        ------
        click.UsageError
            A result has such a place.
        """
        for path, count in self._results.items():
            if path in self._scans:
                raise click.UsageError(
                    f"{path} is a scan and would be replaced; give another name by -o"
                )
            if count > 1:
                raise click.UsageError(
                    f"{count} results would be written to {path}; segment scans of one name one by "
                    "one, and name every label of --probabilities once"
                )

    def keep_label_maps_of_others(self) -> None:
        """Refuse to replace label maps without a record, such as those drawn by hand.

        Raises
        ------
        click.UsageError
            There is such a label map.
        """
        for each in self._planned:
            folder = self._folder(os.path.dirname(str(each.label_map)))
            if each.label_map.name in folder.names and each.record.name not in folder.names:
                raise click.UsageError(
                    f"{each.label_map} exists, and no {each.record.name} beside it says that a run "
                    "made it; move it away, or name a file or another folder by -o"
                )

    def keep_out(self, package: Path) -> None:
        """Refuse results in the package's folder, which holds what its manifest lists alone.

        Raises
        ------
        click.UsageError
            A result would lie there.
        """
        inside = os.path.realpath(package) + os.sep
        for path in self._results:
            if path.startswith(inside):
                raise click.UsageError(
                    f"{path} would lie in the package {package}; choose another place by -o"
                )

    def _place(self, path: Path) -> str:
        parent, name = os.path.split(str(path))
        folder = self._folder(parent)
        if name in ("", "..") or name in folder.links:
            return os.path.realpath(path)
        return folder.prefix + name


class _Folder:
    """Resolved path of a folder, its names, and those of them that are links."""

    def __init__(self, path: str):
        self.prefix = os.path.join(os.path.realpath(path), "")
        self.names: set[str] = set()
        self.links: set[str] = set()
        with contextlib.suppress(OSError), os.scandir(path or os.curdir) as entries:
            for entry in entries:
                self.names.add(entry.name)
                if entry.is_symlink():
                    self.links.add(entry.name)
