from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from segmaformer.checkpoint import load_checkpoint
from segmaformer.checkpoint.files.container import read_checkpoint_file
from segmaformer.runtime.errors import InputError

FORMATS: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
    "safetensors": ("model", safetensors_torch.save_file),
    "bin": ("pytorch_model", torch.save),
}


def write_shards(folder: Path, weights: dict[str, Any], kind: str = "safetensors") -> Path:
    stem, save = FORMATS[kind]
    names = list(weights)
    half = len(names) // 2
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = f"{stem}-0000{number}-of-00002.{kind}"
        save({name: weights[name].clone() for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("by_folder", [True, False])
def test_shards_are_read(
    tmp_path: Path, tiny_weights: dict[str, Any], kind: str, by_folder: bool
) -> None:
    index = write_shards(tmp_path, tiny_weights, kind)
    checkpoint = load_checkpoint(tmp_path if by_folder else index)
    assert checkpoint.path == index
    for name, tensor in checkpoint.model.state_dict().items():
        assert torch.equal(tensor, tiny_weights[name])


def test_digest_is_that_of_the_sums_of_all_files(
    tmp_path: Path, tiny_weights: dict[str, Any]
) -> None:
    index = write_shards(tmp_path, tiny_weights)
    files = [index, *sorted(tmp_path.glob("*.safetensors"))]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    expected = hashlib.sha256("".join(sums).encode()).hexdigest()
    assert read_checkpoint_file(index).sha256 == expected


def test_links_to_shards_are_followed(tmp_path: Path, tiny_weights: dict[str, Any]) -> None:
    """The cache of Hugging Face's hub consists of links."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    write_shards(tmp_path / "blobs", tiny_weights)
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    assert load_checkpoint(tmp_path / "snapshot").arch == "segmaformer"


def changed(index: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(index.read_text())
    change(document)
    index.write_text(json.dumps(document))


def rename(place: Any) -> Callable[[Path], None]:
    return lambda index: changed(index, lambda each: each["weight_map"].update({"x": place}))


def drop_first(index: Path) -> None:
    changed(index, lambda each: each["weight_map"].pop(next(iter(each["weight_map"]))))


def swap(index: Path) -> None:
    def move(document: dict[str, Any]) -> None:
        names = list(document["weight_map"])
        document["weight_map"][names[0]] = document["weight_map"][names[-1]]

    changed(index, move)


def remove_shard(index: Path) -> None:
    (index.parent / "model-00002-of-00002.safetensors").unlink()


def point(index: Path) -> None:
    shard = index.parent / "model-00002-of-00002.safetensors"
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def cut(index: Path) -> None:
    shard = index.parent / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-5])


def no_map(index: Path) -> None:
    index.write_text('{"a": 1}')


def twice(index: Path) -> None:
    index.write_text('{"weight_map": {"a": "b", "a": "c"}}')


def no_json(index: Path) -> None:
    index.write_text("{")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (rename("../model.safetensors"), "expected the name of a file beside it"),
        (rename("/etc/passwd"), "expected the name of a file beside it"),
        (rename("a\\b"), "expected the name of a file beside it"),
        (rename(".."), "expected the name of a file beside it"),
        (rename(""), "expected the name of a file beside it"),
        (rename(3), "expected the name of a file beside it"),
        (rename("none.safetensors"), "lists none.safetensors, which is not beside it"),
        (rename("model-00001-of-00002.safetensors"), "lacks x, which model.safetensors.index.json"),
        (drop_first, "also has .*, which model.safetensors.index.json does not list"),
        (swap, "lacks|also has"),
        (remove_shard, "which is not beside it; fetch all of its files"),
        (point, "a Git LFS pointer"),
        (cut, "is damaged"),
        (no_map, "without a weight_map"),
        (twice, "stands twice"),
        (no_json, "is not JSON"),
    ],
)
def test_spoiled_shards(
    tmp_path: Path,
    tiny_weights: dict[str, Any],
    spoil: Callable[[Path], None],
    complaint: str,
) -> None:
    index = write_shards(tmp_path, tiny_weights)
    spoil(index)
    with pytest.raises(InputError, match=complaint):
        load_checkpoint(index)


def test_a_lone_shard(tmp_path: Path, tiny_weights: dict[str, Any]) -> None:
    write_shards(tmp_path, tiny_weights)
    for file in sorted(tmp_path.glob("*.safetensors")):
        with pytest.raises(InputError, match="one of several files of weights; give their index"):
            load_checkpoint(file)


def test_a_lone_shard_of_another_name(tmp_path: Path, tiny_weights: dict[str, Any]) -> None:
    index = write_shards(tmp_path, tiny_weights)
    first, second = sorted(tmp_path.glob("*.safetensors"))
    index.write_text(index.read_text().replace(first.name, "a.st").replace(second.name, "b.st"))
    for file, name in ((first, "a.st"), (second, "b.st")):
        file.rename(tmp_path / name)
        with pytest.raises(InputError, match="one of several files of weights; give their index"):
            load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (["model-00001-of-00002.safetensors"], "no index.json that lists it"),
        (["a.safetensors.index.json", "b.bin.index.json"], "several sets of weights, a.safe"),
        (["manifest.json"], "is a package already"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["zero_to_fp32.py"], "DeepSpeed"),
        (["saved_model.pb"], "TensorFlow"),
        (["data.pkl"], "unpacked checkpoint"),
        (["model.safetensors"], r"for example .*model\.safetensors"),
        ([], "is a folder; give the checkpoint file itself$"),
    ],
)
def test_folders(tmp_path: Path, files: list[str], complaint: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=complaint):
        read_checkpoint_file(tmp_path)
