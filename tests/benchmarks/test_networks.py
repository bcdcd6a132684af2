"""`sgmf export` of published networks at their published size, run as a user does."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from support.scripts import ROOT, load_script

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(ROOT / "benchmarks/networks.py")


@pytest.mark.parametrize("name", ["segmaformer", "segresmamba"])
def test_the_command_exports_the_network_at_its_published_size(
    script: ModuleType, name: str, tmp_path: Path
) -> None:
    assert script.TILES[name] == (4, 128, 128, 128)
    checkpoint = script.write_checkpoint(name, tmp_path)
    found = script.export(checkpoint, tmp_path / "network.sgmf")
    assert found["exit_code"] == 0, found["said"]
    assert found["error"] <= found["bound"]
    assert found["agreement"] > 0.999


def test_a_network_that_falls_short_is_a_row_of_its_own(script: ModuleType) -> None:
    row = script._row(
        "net",
        {"exit_code": 4, "export_seconds": 1.0, "export_peak_mib": 300.0, "said": ["a", "Error"]},
    )
    assert row == "| net | exit 4: Error | | | | 1.0 | 300 |"
