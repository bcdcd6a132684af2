"""Search for the plans.json and dataset.json of a checkpoint.

A file given by the caller comes first, then the checkpoint's own copy, then a file beside the
checkpoint or beside its ``fold_*`` folder, where nnU-Net puts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmaformer.checkpoint.fields import mapping
from segmaformer.checkpoint.files.container import CheckpointFile
from segmaformer.checkpoint.json_text import read_json_file
from segmaformer.runtime.package.manifest import MOST_LICENCE


@dataclass(frozen=True)
class Documents:
    """nnU-Net's records of a training, as far as they were found.

    Attributes
    ----------
    plans, dataset
        Contents of plans.json and dataset.json, or None.
    sources
        One sentence for each document that was found, naming its source.
    """

    plans: Mapping[str, Any] | None
    dataset: Mapping[str, Any] | None
    sources: tuple[str, ...]

    @property
    def licence(self) -> str | None:
        """Licence that dataset.json states, under the name of nnU-Net or the Decathlon, or None."""
        for key in ("licence", "license"):
            stated = (self.dataset or {}).get(key)
            if isinstance(stated, str) and stated.strip():
                return f"{stated.strip():.{MOST_LICENCE}} (of the training's data, by dataset.json)"
        return None


def gather_documents(
    file: CheckpointFile,
    *,
    plans: str | Path | None = None,
    dataset_json: str | Path | None = None,
) -> Documents:
    """Find the documents of a checkpoint.

    Parameters
    ----------
    file
        The checkpoint that was read.
    plans, dataset_json
        Files to use instead of the checkpoint's own copies.

    Raises
    ------
    FileNotFoundError
        A named file does not exist.
    InputError
        A document is not a JSON object.
    """
    found_plans = _gather(file, plans, "plans", "plans.json")
    found_dataset = _gather(file, dataset_json, "dataset_json", "dataset.json")
    sentences = [sentence for _, sentence in (found_plans, found_dataset) if sentence]
    return Documents(found_plans[0], found_dataset[0], tuple(sentences))


def _gather(
    file: CheckpointFile, given: str | Path | None, key: str, name: str
) -> tuple[Mapping[str, Any] | None, str]:
    inside = file.init_args.get(key)
    if given is not None:
        replaced = " and not from inside the checkpoint" if inside is not None else ""
        return read_json(Path(given)), f"{name}: from {given}, as given{replaced}."
    if inside is not None:
        return mapping(inside, f"{file.path}: init_args.{key}"), f"{name}: from the checkpoint."
    folder = file.path.parent
    trainer_folder = [folder.parent] if folder.name.startswith("fold_") else []
    for beside in (folder / name, *(parent / name for parent in trainer_folder)):
        if beside.is_file():
            return read_json(beside), f"{name}: from {beside}, found beside the checkpoint."
    return None, ""


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    InputError
        The content is not JSON, has a name twice, or is not an object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return mapping(read_json_file(path), str(path))
