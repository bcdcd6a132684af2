"""``sgmf export`` of a .pt2 file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.networks.nnunet_folders import DATASET, TILE, plans

torch = pytest.importorskip("torch")

from segmaformer.runtime.package.reader import Package


def test_the_command_exports_a_file(sgmf: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text(json.dumps(plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    network = torch.nn.Conv3d(1, 3, 3, padding=1).eval()
    program = torch.export.export(network, (torch.zeros(1, 1, *TILE),))
    torch.export.save(program, tmp_path / "network.pt2")
    target = tmp_path / "own.sgmf"
    run = sgmf(
        *("export", tmp_path / "network.pt2", "-o", target),
        *("--plans", tmp_path / "plans.json", "--dataset-json", tmp_path / "dataset.json"),
    )
    assert run.code == 0, run.stderr
    assert "one tile at a time" in run.stderr
    assert Package.open(target).manifest.network.name == "pt2"
