"""Store of packages that the user keeps under names, one of which may be the chosen one.

A package lies in the store as the folder ``NAME@SHA256``, with the SHA-256 of its manifest, which
lists that of every other file. So one renaming adds a package and says which bytes it has, and a
package that changed in the store no longer has the hash in its name. The file ``chosen`` holds the
chosen name. Only the user can write the store, see
:mod:`segmaformer.runtime.system.private_folder`.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.copying import copy_package
from segmaformer.runtime.package.reader import MANIFEST_FILE, MAX_MANIFEST_BYTES, Package
from segmaformer.runtime.system.atomic import named_where_full
from segmaformer.runtime.system.private_folder import PrivateFolder
from segmaformer.runtime.system.unfinished import (
    completing,
    create_folder,
    discard,
    forget,
    remove_abandoned,
)

FOLDER_VARIABLE = "SGMF_MODELS"
CHOSEN_FILE = "chosen"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_ENTRY = re.compile(rf"({_NAME.pattern})@([0-9a-f]{{64}})")


@dataclass(frozen=True)
class StoredModel:
    """Package in the store.

    Attributes
    ----------
    name
        Name that the user gave it.
    manifest_sha256
        SHA-256 of its manifest when it was added.
    path
        Folder of the package.
    """

    name: str
    manifest_sha256: str
    path: Path

    def check(self) -> None:
        """Check that only the user can write the package, and that its manifest did not change.

        Raises
        ------
        PackageError
            It changed, others can write it, or it is a link.
        """
        remedy = f"run: sgmf models remove {self.name}, and add it again"
        folder = PrivateFolder(self.path, FOLDER_VARIABLE, PackageError)
        folder.check()
        try:
            content = folder.read(MANIFEST_FILE, limit=MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise PackageError(f"{self.path} has no {MANIFEST_FILE}; {remedy}") from None
        if hashlib.sha256(content).hexdigest() != self.manifest_sha256:
            raise PackageError(
                f"the model {self.name} changed after it was added: the manifest in {self.path} "
                f"does not have the SHA-256 that the folder's name states; {remedy}"
            )


def is_model_name(text: str) -> bool:
    """Tell if a text can name a model: 1 to 64 letters, digits, ``.``, ``_`` and ``-``.

    The first character is none of ``.`` and ``-``.
    """
    return _NAME.fullmatch(text) is not None


def models_folder() -> Path:
    """Return ``$SGMF_MODELS``, or ``segmaformer/models`` in the user's XDG data folder.

    Raises
    ------
    FileNotFoundError
        The user has no home folder.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):
        return Path(data) / "segmaformer" / "models"
    try:
        return Path.home() / ".local" / "share" / "segmaformer" / "models"
    except RuntimeError:
        raise FileNotFoundError(
            f"this user has no home folder for models; set {FOLDER_VARIABLE} to a folder"
        ) from None


class ModelStore:
    """Models of one user, in a folder that is created if missing.

    Parameters
    ----------
    folder
        Folder of the store; None uses :func:`models_folder`.

    Raises
    ------
    PackageError
        Others can write the folder, or it is a link.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = PrivateFolder.open(
            models_folder() if folder is None else folder,
            variable=FOLDER_VARIABLE,
            refusal=PackageError,
        )

    @classmethod
    def existing(cls) -> ModelStore | None:
        """Open the store of this user, or return None if there is none yet."""
        return cls() if os.path.lexists(models_folder().expanduser()) else None

    @property
    def path(self) -> Path:
        """Path of the folder, with links resolved."""
        return self._folder.path

    def models(self) -> list[StoredModel]:
        """List the models by name; they are not checked."""
        entries = (_ENTRY.fullmatch(name) for name in self._folder.names(""))
        return [StoredModel(found[1], found[2], self.path / found[0]) for found in entries if found]

    def find(self, name: str) -> StoredModel:
        """Return the model of a name after :meth:`StoredModel.check`.

        Raises
        ------
        FileNotFoundError
            There is no model of that name.
        PackageError
            The check failed, or two packages have that name.
        """
        found = self._named(name)
        if not found:
            raise self._missing(name)
        if len(found) > 1:
            raise PackageError(
                f"{self.path} holds {len(found)} packages named {name}: one was being replaced "
                f"when a run was killed; run: sgmf models remove {name}, and add it again"
            )
        found[0].check()
        return found[0]

    def chosen_name(self) -> str | None:
        """Return the chosen name, whether or not its model is there; None if none was chosen.

        Raises
        ------
        PackageError
            The file that holds it is damaged, a link, or open to others.
        """
        try:
            content = self._folder.read(CHOSEN_FILE, limit=100)
        except FileNotFoundError:
            return None
        name = content.decode("ascii", "replace").removesuffix("\n")
        if not is_model_name(name):
            raise PackageError(
                f"{self.path / CHOSEN_FILE} holds no model's name; run: sgmf models use NAME"
            )
        return name

    def choose(self, name: str) -> StoredModel:
        """Make a model the chosen one, and return it; errors are those of :meth:`find`."""
        model = self.find(name)
        self._folder.write(CHOSEN_FILE, f"{name}\n".encode())
        return model

    def add(self, source: Path, name: str, *, replace: bool = False) -> StoredModel:
        """Copy the package at `source` into the store, whole and checked, or not at all.

        Parameters
        ----------
        source
            Folder of the package; only its signatures and the files that its manifest lists are
            copied.
        name
            Name of the model, see :func:`is_model_name`.
        replace
            Whether an earlier model of that name may be replaced.

        Raises
        ------
        ValueError
            `name` cannot name a model.
        FileExistsError
            There is a model of that name.
        PackageError
            `source` is no package, was altered, or changed meanwhile.
        """
        if not is_model_name(name):
            raise ValueError(
                f"{name!r:.80} cannot name a model; expected 1 to 64 letters, digits, '.', '_' "
                "and '-', and none of '.' and '-' first"
            )
        earlier = self._named(name)
        if earlier and not replace:
            raise FileExistsError(
                f"there is a model {name} already; give --replace, or another name with --name"
            )
        package = Package.open(source)
        digest = package.manifest_sha256
        model = StoredModel(name, digest, self.path / f"{name}@{digest}")
        remove_abandoned(self.path)
        staging, lock = create_folder(model.path)
        try:
            with named_where_full(model.path):
                _copy(package, digest, staging)
            with completing():
                if model in earlier:
                    self._discard(model)
                staging.rename(model.path)
                forget(staging)
        finally:
            discard(staging)
            os.close(lock)
        for other in earlier:
            if other != model:
                self._discard(other)
        return model

    def remove(self, name: str) -> None:
        """Remove what has a name, whether or not it passes its check.

        Raises
        ------
        FileNotFoundError
            There is no model of that name.
        """
        found = self._named(name)
        if not found:
            raise self._missing(name)
        if self.chosen_name() == name:
            (self.path / CHOSEN_FILE).unlink()
        for model in found:
            self._discard(model)

    def _named(self, name: str) -> list[StoredModel]:
        return [model for model in self.models() if model.name == name]

    def _missing(self, name: str) -> FileNotFoundError:
        known = ", ".join(dict.fromkeys(model.name for model in self.models())) or "none"
        return FileNotFoundError(f"there is no model {name!r:.80} in {self.path}; it has {known}")

    def _discard(self, model: StoredModel) -> None:
        """Take a model out of the store by one renaming, then delete it."""
        if model.path.is_symlink() or not model.path.is_dir():
            model.path.unlink()
            return
        place, lock = create_folder(model.path)
        try:
            with completing():
                model.path.rename(place)
        finally:
            discard(place)
            os.close(lock)


def _copy(package: Package, manifest_sha256: str, folder: Path) -> None:
    """Copy a package for the user alone."""
    folder.chmod(0o700)
    copy_package(package, manifest_sha256, folder)
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
