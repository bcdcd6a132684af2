"""``sgmf export --module`` with nnU-Net's plans, and plans that belong to another network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.networks.nnunet_folders import DATASET, TILE, plans

torch = pytest.importorskip("torch")

from segmaformer.runtime.package.reader import Package

Sgmf = Callable[..., Any]
Export = Callable[..., Any]
CODE = """
from torch import nn

class TheirNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.down = nn.Conv3d(1, 4, 2, stride=2)
        self.up = nn.ConvTranspose3d(4, classes, 2, stride=2)

    def forward(self, x):
        print("hello from the network")
        return self.up(self.down(x).relu())
"""


@pytest.fixture
def export(sgmf: Sgmf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Run the command with plans and a dataset that differ from the network's by some entries."""
    monkeypatch.delitem(sys.modules, "their_unet", raising=False)  # of an earlier test's folder
    (tmp_path / "code").mkdir()
    (tmp_path / "code/their_unet.py").write_text(CODE)
    weights = {"down.weight": (4, 1, 2, 2, 2), "down.bias": (4,)}
    weights |= {"up.weight": (4, 3, 2, 2, 2), "up.bias": (3,)}
    generator = torch.Generator().manual_seed(0)
    torch.save(
        {key: torch.randn(shape, generator=generator) for key, shape in weights.items()},
        tmp_path / "weights.pth",
    )

    def run(*, tile: tuple[int, int, int] = TILE, **dataset: Any) -> Any:
        planned = plans()
        planned["configurations"]["3d_fullres"]["patch_size"] = tile
        channels = len(dataset.get("channel_names", "1"))
        for key, value in (
            ("normalization_schemes", "ZScoreNormalization"),
            ("use_mask_for_norm", False),
        ):
            planned["configurations"]["3d_fullres"][key] = [value] * channels
        (tmp_path / "plans.json").write_text(json.dumps(planned))
        (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, **dataset}))
        return sgmf(
            *("export", tmp_path / "weights.pth", "-o", tmp_path / "own.sgmf"),
            *("--module", "their_unet:TheirNet", "--module-path", tmp_path / "code"),
            *("--module-args", '{"classes": 3}', "--plans", tmp_path / "plans.json"),
            *("--dataset-json", tmp_path / "dataset.json"),
        )

    return run


def test_a_module_with_plans(export: Export, tmp_path: Path) -> None:
    run = export()
    assert run.code == 0, run.stderr
    assert run.stdout.splitlines() == [str(tmp_path / "own.sgmf")]
    assert f"running their_unet:TheirNet from {tmp_path / 'code/their_unet.py'}" in run.stderr
    assert "hello from the network" in run.stderr
    assert Package.open(tmp_path / "own.sgmf").manifest.network.name == "their_unet:TheirNet"


@pytest.mark.parametrize(
    ("differing", "message"),
    [
        (
            {"channel_names": {"0": "T1", "1": "T2"}},
            r"the module fails on a tile of shape (1, 2, 16, 16, 16) on the CPU",
        ),
        ({"labels": {"background": 0, "organ": 1}}, "Check the number of labels, the patch size"),
        ({"tile": (16, 15, 16)}, "gives (1, 3, 16, 14, 16) for an input of (1, 1, 16, 15, 16)"),
    ],
    ids=["channels", "labels", "tile"],
)
def test_plans_of_another_network(
    export: Export, tmp_path: Path, differing: dict[str, Any], message: str
) -> None:
    run = export(**differing)
    assert run.code == 3
    assert message in " ".join(run.stderr.split())
    assert not (tmp_path / "own.sgmf").exists()
