from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.graphs.small_onnx import run, small_network, some_tiles

pytest.importorskip("onnx")

from PIL import Image

from segmaformer.calibration import search
from segmaformer.calibration.flavours import CPU, FLAVOURS, TENSORRT
from segmaformer.calibration.harm_picture import KEPT, LEFT, draw_harms, write_harm_picture
from segmaformer.calibration.judge import Judge
from segmaformer.calibration.layers import find_layers
from segmaformer.calibration.measurement import Measurement
from segmaformer.calibration.ranges import LEVELS
from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.search import Placed, best_placement
from segmaformer.calibration.sensitivity import harm_table, measure_harms, possible_steps
from segmaformer.calibration.tile_set import TileSet
from segmaformer.runtime.errors import ParityError
from segmaformer.runtime.spec import Label, Output

OUTPUT = Output((Label(0, "background"), Label(1, "one"), Label(2, "two")))
TILES = some_tiles(4)


def measurement(spoiled: str | None = None) -> Measurement:
    """Return the small network; the layer reading tensor `spoiled` has far too coarse a step."""
    model = small_network()
    layers = find_layers(model)
    tensors = CPU.observed(CPU.candidates(layers))
    watched = small_network()
    watched.graph.output.extend(type(watched.graph.output[0])(name=name) for name in tensors)
    arrays = run(watched, TILES, list(tensors))
    scales = {
        name: float(np.abs(array).max()) / LEVELS
        for name, array in zip(tensors, arrays, strict=True)
    }
    if spoiled:
        scales[spoiled] *= 60
    record: Any = SimpleNamespace(held_out=TileSet(TILES, ()))
    return Measurement(model, layers, record, "minmax", scales)


def judge(of: Measurement) -> Judge:
    return Judge(of.tiles.held_out, of.model, OUTPUT, threads=1)


def placed(of: Measurement, gate: float, **options: Any) -> Placed:
    return best_placement(of, TENSORRT, judge(of), Gate(gate), **options)


def test_everything_is_kept_where_it_passes_and_nothing_is_measured() -> None:
    found = placed(measurement(), 0.8)
    assert found.variant.layers == ("pointwise", "conv", "matmul")
    assert found.harms == ()
    assert found.float32.keys() == {"embed", "depthwise", "last"}
    assert found.float32["last"] == "the last projection"
    assert found.record()["sensitivity"] == []


def test_the_harmful_layer_is_left_in_float32() -> None:
    lines: list[str] = []
    found = placed(measurement("t"), 0.9, report=lines.append)
    assert found.variant.layers == ("pointwise", "conv")
    assert found.judgement.lowest_dice >= 0.9
    assert found.float32["matmul"].startswith("too harmful: lowest Dice 0.")
    assert "measuring 3 layers one by one and up to 24 placements" in lines[1]
    assert any(line.startswith("matmul") and line.endswith("  no") for line in lines)


def test_the_least_harmful_layer_comes_first() -> None:
    of = measurement("t")
    harms = measure_harms(of, TENSORRT, judge(of))
    assert harms[-1].step.layer.name == "matmul"
    assert harms[-1].harm > 5 * max(harm.harm for harm in harms[:-1])
    assert all(0 <= harm.changed < 1 and harm.error > 0 for harm in harms)


def test_savings_of_all_layers_are_shares() -> None:
    of = measurement()
    steps = possible_steps(of, CPU)
    everything = sum(step.saving for step in steps)
    macs = sum(layer.macs for layer in of.layers)
    parameters = sum(layer.parameters for layer in of.layers)
    chosen = [step.layer for step in steps]
    assert everything == pytest.approx(
        sum(each.macs for each in chosen) / macs / 2
        + sum(each.parameters for each in chosen) / parameters / 2
    )


def test_what_cannot_pass_is_refused_with_the_best_found() -> None:
    with pytest.raises(ParityError, match=r"Dice is 0\.\d+ .* the least harmful layer alone, "):
        placed(measurement(), 1.01)


def test_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LEAST_SAVING", 0.99)
    with pytest.raises(ParityError, match=r"saves \d+% of what every candidate would"):
        placed(measurement("t"), 0.9)


def test_trials_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEP_TRIALS", 1)
    steps: list[tuple[str, int]] = []
    found = placed(
        measurement("t"), 0.9, progress=lambda stage, done, count: steps.append((stage, done))
    )
    assert max(done for stage, done in steps if stage == "int8 placements") <= 1
    assert "matmul" not in found.variant.layers


def test_the_table_counts_what_it_leaves_out() -> None:
    of = measurement("t")
    harms = measure_harms(of, TENSORRT, judge(of))
    head, first, rest = harm_table(harms, {"matmul": "int8 weights"}, most=1)
    assert head.startswith("layer")
    assert first.startswith("matmul")
    assert first.endswith("int8 weights")
    assert rest == "and 2 less harmful"


def test_the_picture_shows_what_is_kept_and_what_not(tmp_path: Any) -> None:
    found = placed(measurement("t"), 0.9)
    colours = {colour for _, colour in draw_harms(found, title="small").getcolors(1 << 16) or ()}
    assert {KEPT, LEFT} <= colours
    everything = placed(measurement(), 0.8, sensitivity=True)
    bars = draw_harms(everything, title="small").crop((0, 100, 600, 400))
    assert LEFT not in {colour for _, colour in bars.getcolors(1 << 16) or ()}
    write_harm_picture(tmp_path / "harm.png", [found, everything], title="small")
    with Image.open(tmp_path / "harm.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.variant)
def test_the_record_says_what_each_layer_costs(flavour: Any) -> None:
    of = measurement()
    found = best_placement(of, flavour, judge(of), Gate(0.8), sensitivity=True)
    names = {row["layer"] for row in found.record()["sensitivity"]}
    assert names == {layer.name for layer in flavour.candidates(of.layers)}
    assert {*found.variant.layers, *found.float32} == {layer.name for layer in of.layers}
