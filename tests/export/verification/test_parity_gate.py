from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.export.verification import parity_gate
from segmaformer.export.verification.parity_gate import ParityGate, Verdict
from segmaformer.runtime.parity.tile_parity import TileParity
from segmaformer.runtime.spec import Label, Output

OUTPUT = Output((Label(0, "background"), Label(1, "a")))
SHAPE = (1, 4, 5, 6)


class Noisy(torch.nn.Module):
    """Model of two logits, in float32 off by a share of the first tile's."""

    def __init__(self, noise: float):
        super().__init__()
        self.noise = noise

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        logits = torch.cat((tiles, -tiles), 1)
        off = self.noise if tiles.dtype == torch.float32 and tiles[0, 0, 0, 0, 0] == 1 else 0
        logits[:, 1, 1, 2, 3] += off
        return logits


def tiles() -> np.ndarray:
    found = np.random.default_rng(0).uniform(-0.9, 0.9, (2, *SHAPE)).astype(np.float32)
    found[:, 0, 0, 0, 0] = (1, -1)  # the range of the logits is 2
    return found


def gate(noise: float, folder: Path, lines: list[str]) -> ParityGate:
    return ParityGate(Noisy(noise), tiles(), folder, lines.append)


def logits(off: float, tile: int = 0) -> list[np.ndarray]:
    found = [np.concatenate((each, -each)) for each in tiles()]
    found[tile][0, 2, 2, 2] += np.float32(off)
    return found


def test_what_agrees_is_not_computed_in_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_gate, "float64_logits", lambda *_: pytest.fail("float64"))
    parity = gate(0, tmp_path, []).compare(logits(3.9e-5), OUTPUT, exact=True)
    assert (parity.reference, parity.bound, parity.noise) == ("PyTorch float32", 2e-5, None)
    assert parity.shortcomings(exact=True) == []
    parity = gate(0, tmp_path, []).compare(logits(0.1), OUTPUT, exact=False)
    assert parity.reference == "PyTorch float32"


@pytest.mark.parametrize(
    ("noise", "off", "good"),
    [(0, 4.2e-5, False), (1e-5, 4.2e-5, False), (5e-5, 9e-5, True), (5e-5, 11e-5, False)],
)
def test_float64_decides_what_float32_cannot(
    noise: float, off: float, good: bool, tmp_path: Path
) -> None:
    lines: list[str] = []
    parity = gate(noise, tmp_path, lines).compare(logits(off), OUTPUT, exact=True)
    assert parity.reference == "PyTorch float64 on 1 of 2 tiles, float32 on the others"
    assert parity.noise == pytest.approx(noise / 2, abs=1e-7)
    assert parity.bound == pytest.approx(max(2e-5, noise), abs=2e-7)
    assert parity.relative_error == pytest.approx(off / 2, abs=1e-7)
    assert (parity.shortcomings(exact=True) == []) is good
    assert any("PyTorch float64 decides on 1 of 2 tiles" in line for line in lines)


def test_a_variant_that_is_right_passes_where_pytorch_is_off(tmp_path: Path) -> None:
    parity = gate(1e-3, tmp_path, []).compare(logits(0), OUTPUT, exact=True)
    assert parity.relative_error == 0
    assert parity.noise == pytest.approx(5e-4, rel=1e-3)


def test_logits_are_kept_in_files_without_names(tmp_path: Path) -> None:
    kept = gate(0, tmp_path, [])
    assert [*tmp_path.iterdir()] == []
    found = kept.run("fp32", lambda tile: np.concatenate((tile, -tile))[:, ::1, ::-1])
    assert all(isinstance(each, np.memmap) for each in found)
    np.testing.assert_array_equal(found[1], np.concatenate((tiles()[1], -tiles()[1]))[:, :, ::-1])


def test_a_tile_that_was_run_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = gate(0, tmp_path, [])
    new = tiles()[0] + 1
    np.testing.assert_array_equal(kept.expected(new), np.concatenate((new, -new)))
    monkeypatch.setattr(parity_gate, "float32_logits", lambda *_: pytest.fail("run again"))
    np.testing.assert_array_equal(kept.expected(tiles()[1]), logits(0)[1])


def test_long_tiles_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_gate, "LONG_S", 0)
    lines: list[str] = []
    gate(0, tmp_path, lines).run("fp32", lambda tile: tile)
    assert lines[1] == "PyTorch: tile 2 of 2 took 0 s"
    assert lines[3] == "fp32: tile 2 of 2 took 0 s"


@pytest.mark.parametrize(
    ("error", "noise", "exact", "refused", "allowed"),
    [
        (0.0, None, True, False, " (at most 2.0e-05)"),
        (0.01, None, True, True, " (at most 2.0e-05)"),
        (0.0, 0.25, True, False, " (at most 2.0e-05; PyTorch's float32 is within 2.5e-01)"),
        (1e-5, None, False, False, ""),
        (9.0, None, False, True, ""),
    ],
)
def test_verdicts(
    error: float, noise: float | None, exact: bool, refused: bool, allowed: str
) -> None:
    expected = np.concatenate([tiles()[0], -tiles()[0]])
    parity = TileParity(OUTPUT, noise=noise)
    parity.add(expected + np.float32([error, 0])[:, None, None, None], expected)
    verdict = Verdict("fp16", parity, exact)
    assert (verdict.refusal or "").startswith("fp16 does not match PyTorch: " * refused)
    assert (verdict.refusal is None) != refused
    assert f" of their range{allowed}, " in verdict.figures
