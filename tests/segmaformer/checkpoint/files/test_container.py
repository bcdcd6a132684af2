from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.files.container import CheckpointFile, read_checkpoint_file
from segmaformer.checkpoint.files.one_file import _numpy_scalar_globals
from segmaformer.runtime.errors import InputError, MissingExtraError

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def weights_of(file: CheckpointFile) -> dict[str, Any]:
    return max((each.tensors for each in file.dictionaries), key=len)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("bare.pth", WEIGHTS),
        ("bare.bin", WEIGHTS),
        ("lightning.ckpt", {"epoch": 3, "state_dict": WEIGHTS, "callbacks": {}}),
        ("deepspeed.pt", {"module": WEIGHTS}),
        ("model.pt", {"model": WEIGHTS, "optimizer": {}}),
        ("msd.pt", {"model_state_dict": WEIGHTS}),
        ("nnunet.pth", {"network_weights": WEIGHTS, "trainer_name": "T"}),
        ("deep.pt", {"checkpoint": {"content": {"weights": WEIGHTS}}}),
        ("with_others.pt", {**WEIGHTS, "epoch": 3}),
    ],
)
def test_every_form_gives_the_same_weights(tmp_path: Path, name: str, document: Any) -> None:
    torch.save(document, tmp_path / name)
    file = read_checkpoint_file(tmp_path / name)
    assert list(weights_of(file)) == list(WEIGHTS)
    assert torch.equal(weights_of(file)["a.weight"], WEIGHTS["a.weight"])
    assert file.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_safetensors(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    file = read_checkpoint_file(tmp_path / "model.safetensors")
    assert torch.equal(weights_of(file)["a.weight"], WEIGHTS["a.weight"])


def test_safetensors_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=r"segmaformer\[export\]"):
        read_checkpoint_file(tmp_path / "model.safetensors")


def test_legacy_format(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert list(weights_of(read_checkpoint_file(tmp_path / "old.pth"))) == list(WEIGHTS)


def test_nnunet_checkpoint_with_training_state(
    tmp_path: Path, nnunet_document: dict[str, Any]
) -> None:
    torch.save(nnunet_document, tmp_path / "checkpoint_final.pth")
    file = read_checkpoint_file(tmp_path / "checkpoint_final.pth")
    assert file.trainer == nnunet_document["trainer_name"]
    assert file.mirror_axes == (0, 1, 2)
    assert file.init_args["configuration"] == "3d_fullres"
    assert file.init_args["plans"] == nnunet_document["init_args"]["plans"]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy(tmp_path: Path, module: str) -> None:
    document = {"network_weights": WEIGHTS, "_best_ema": np.float64(0.5)}
    torch.save(document, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    written = np.float64(0).__reduce__()[0].__module__
    content = (tmp_path / "new.pth").read_bytes().replace(written.encode(), module.encode())
    (tmp_path / "other.pth").write_bytes(content)
    assert module.encode() in content
    assert list(weights_of(read_checkpoint_file(tmp_path / "other.pth"))) == list(WEIGHTS)


def test_allow_list_holds_nothing_but_numpy_scalars() -> None:
    for entry in _numpy_scalar_globals():
        target = entry[0] if isinstance(entry, tuple) else entry
        assert target.__module__.startswith("numpy")
        assert target.__name__ in ("scalar", "dtype") or target.__name__.endswith("DType")
        assert "Object" not in target.__name__


def test_mirror_axes_that_nnunet_left_out(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "a.pth")
    assert read_checkpoint_file(tmp_path / "a.pth").mirror_axes is None
    document = {"network_weights": WEIGHTS, "inference_allowed_mirroring_axes": None}
    torch.save(document, tmp_path / "b.pth")
    assert read_checkpoint_file(tmp_path / "b.pth").mirror_axes == ()


def test_a_dictionary_under_two_keys_is_one(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "state_dict": WEIGHTS}, tmp_path / "twice.pth")
    (found,) = read_checkpoint_file(tmp_path / "twice.pth").dictionaries
    assert found.keys == ("model",)


def test_too_many_dictionaries(tmp_path: Path) -> None:
    torch.save({str(number): {} for number in range(10_001)}, tmp_path / "many.pth")
    with pytest.raises(InputError, match="more than 10000 dictionaries"):
        read_checkpoint_file(tmp_path / "many.pth")


class Payload:
    """Object that touches a file when a careless program unpickles it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["state_dict", "optimizer_state"])
def test_code_in_a_pickle_never_runs(tmp_path: Path, zipped: bool, place: str) -> None:
    document = {"state_dict": WEIGHTS, place: {"x": Payload(tmp_path / "ran")}}
    torch.save(document, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=f"asks to load {os.system.__module__}.system"):
        read_checkpoint_file(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_code_never_run(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(Payload(tmp_path / "ran"), protocol)
    (tmp_path / "evil.pth").write_bytes(content)
    with pytest.raises(InputError):
        read_checkpoint_file(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_refusal_says_how_to_save_again_and_not_to_lift_the_restriction(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(InputError) as refusal:
        read_checkpoint_file(tmp_path / "module.pt")
    assert "torch.nn.modules.linear.Linear" in str(refusal.value)
    assert "state_dict()" in str(refusal.value)
    assert "weights_only" not in str(refusal.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        read_checkpoint_file(tmp_path / "none.pth")


def test_folder_names_the_checkpoint_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; give the checkpoint file itself$"):
        read_checkpoint_file(tmp_path)
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_final.pth").touch()
    with pytest.raises(InputError, match=r"for example .*fold_0.checkpoint_final\.pth"):
        read_checkpoint_file(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.99])
def test_truncated_file(tmp_path: Path, zipped: bool, kept: float) -> None:
    document = {"a": torch.zeros(1000)}
    torch.save(document, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "part.pth").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="is damaged"):
        read_checkpoint_file(tmp_path / "part.pth")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(InputError, match="TorchScript") as refusal:
        read_checkpoint_file(tmp_path / "script.pt")
    assert "trusted source" not in str(refusal.value)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([1, 2], "holds a list"),
        ({}, "found an empty dictionary"),
        ({"epoch": 3}, "no weights.*found 'epoch'"),
        ({"state_dict": {}}, "no weights"),
        ({"state_dict": {"a": 1}}, "no weights"),
        ({3: torch.zeros(1)}, "no weights"),
        ({"state_dict": WEIGHTS, "trainer_name": 3}, "trainer_name is a int"),
        ({"state_dict": WEIGHTS, "init_args": [1]}, "init_args is a list"),
        ({"state_dict": WEIGHTS, "inference_allowed_mirroring_axes": (3,)}, "expected some of 0"),
        ({"state_dict": WEIGHTS, "inference_allowed_mirroring_axes": (1, 1)}, "each once"),
        ({"state_dict": WEIGHTS, "inference_allowed_mirroring_axes": 1}, "expected a list"),
    ],
)
def test_unusable_content(tmp_path: Path, document: Any, complaint: str) -> None:
    torch.save(document, tmp_path / "file.pth")
    with pytest.raises(InputError, match=complaint):
        read_checkpoint_file(tmp_path / "file.pth")
