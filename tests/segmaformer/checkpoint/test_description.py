from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import describe_checkpoint
from segmaformer.runtime.errors import InputError


def test_everything_is_json(tmp_path: Path, nnunet_document: dict[str, Any]) -> None:
    torch.save(nnunet_document, tmp_path / "checkpoint_final.pth")
    facts = json.loads(json.dumps(describe_checkpoint(tmp_path / "checkpoint_final.pth")))
    assert facts["network"] == "segmaformer"
    assert facts["configuration"]["embed_dims"] == [6, 8, 12, 60]
    assert facts["tiling"]["tile"] == [16, 24, 32]
    assert facts["preprocessing"]["channels"] == ["T1", "CT"]
    assert facts["output"] == "exclusive labels"
    assert facts["labels"] == {"0": "background", "1": "left", "2": "right"}
    assert facts["assumptions"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"licence": "CC BY-SA 4.0"}, "CC BY-SA 4.0 (of the training's data, by dataset.json)"),
        ({"license": " MIT "}, "MIT (of the training's data, by dataset.json)"),
        ({"licence": "", "license": 7}, None),
    ],
)
def test_the_licence_is_that_of_the_data(
    tmp_path: Path, nnunet_document: dict[str, Any], stated: dict[str, Any], expected: str | None
) -> None:
    nnunet_document["init_args"]["dataset_json"] |= stated
    torch.save(nnunet_document, tmp_path / "checkpoint_final.pth")
    assert describe_checkpoint(tmp_path / "checkpoint_final.pth")["licence"] == expected


def test_weights_alone(tmp_path: Path, tiny_weights: dict[str, Any]) -> None:
    torch.save(tiny_weights, tmp_path / "weights.pt")
    facts = describe_checkpoint(tmp_path / "weights.pt")
    assert facts["tiling"] is None
    assert facts["trainer"] is None


def test_regions(tmp_path: Path, nnunet_document: dict[str, Any]) -> None:
    nnunet_document["init_args"]["dataset_json"] |= {
        "labels": {"background": 0, "all": [1, 2, 3], "some": [2, 3], "core": 3},
        "regions_class_order": [1, 2, 3],
    }
    torch.save(nnunet_document, tmp_path / "regions.pth")
    facts = describe_checkpoint(tmp_path / "regions.pth")
    assert facts["output"] == "overlapping regions"
    assert facts["labels"] == {"1": "all", "2": "some", "3": "core"}


def test_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("hello")
    with pytest.raises(InputError):
        describe_checkpoint(tmp_path / "notes.pth")
