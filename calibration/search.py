"""Search for the int8 placement with the largest saving that passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segmaformer.calibration.flavours import Flavour
from segmaformer.calibration.int8_variant import (
    Int8Variant,
    int8_variant,
    with_large_weights,
)
from segmaformer.calibration.judge import Judge, Judgement
from segmaformer.calibration.measurement import Measurement
from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.sensitivity import (
    RANKING_TILES,
    Harm,
    Step,
    chosen_by,
    harm_table,
    measure_harms,
    possible_steps,
)
from segmaformer.runtime.errors import ParityError
from segmaformer.runtime.progress import Progress, Report, StepProgress

STEP_TRIALS, WEIGHT_TRIALS = 18, 6
"""Placements that a search judges on all held-out tiles: of single steps, and of the weights
of layers that it left in float32."""
LEAST_SAVING = 0.1
"""Least share of the possible saving that makes a variant worth adding."""
MOST_TRIALS = STEP_TRIALS + WEIGHT_TRIALS


@dataclass(frozen=True, eq=False)
class Placed:
    """Placement that passed, and findings of the search.

    Attributes
    ----------
    variant, judgement
        The network and its comparison with float32.
    harms
        Effect of each step alone, from cheap to dear; empty if not measured.
    float32
        Reason why a layer computes in float32, by its name.
    """

    variant: Int8Variant
    judgement: Judgement
    harms: tuple[Harm, ...]
    float32: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Describe the placement for the manifest."""
        return {
            **self.variant.record(),
            "float32": self.float32,
            **self.judgement.record(),
            "sensitivity": [harm.record() for harm in self.harms],
        }


def best_placement(
    measurement: Measurement,
    flavour: Flavour,
    judge: Judge,
    gate: Gate,
    *,
    sensitivity: bool = False,
    progress: Progress = lambda stage, done, count: None,
    report: Report = lambda message: None,
) -> Placed:
    """Keep every candidate in int8 if that passes; else search for a part that does.

    The search takes the steps from the cheapest to the dearest harm for their saving. It tries all
    of them and then ever smaller parts, so that the kept steps have passed together.

    Parameters
    ----------
    measurement
        Measured network and its scales.
    flavour
        Kind of backends that it is for.
    judge
        Judge with the held-out tiles of `measurement`.
    gate
        Bounds that the placement must keep.
    sensitivity
        Measure each step alone even if everything passes.
    progress, report
        Called as work proceeds, and with a line of text about each notable fact.

    Raises
    ------
    ParityError
        No placement in int8 passes, or only one that saves too little to be worth a variant.
    """
    name = flavour.variant
    variant = int8_variant(measurement, flavour)
    judgement = judge(variant.model)
    shortfalls = judgement.shortfalls(gate)
    if shortfalls:
        report(f"{name}: with every candidate in int8, {'; '.join(shortfalls)}")
    harms: tuple[Harm, ...] = ()
    if shortfalls or sensitivity:
        _announce(measurement, flavour, judge, report, searches=bool(shortfalls))
        harms = measure_harms(
            measurement, flavour, judge, progress=lambda *at: progress(f"{name} layers", *at)
        )
    if shortfalls:
        search = _Search(
            measurement, flavour, judge, gate, lambda *at: progress(f"{name} placements", *at)
        )
        found = search.run(harms)
        if found is None:
            raise ParityError(_failure(name, shortfalls, harms))
        variant, judgement = found
        _check_saving(variant, shortfalls, harms)
    if harms:
        for line in harm_table(harms, variant.precision):
            report(line)
    return Placed(variant, judgement, harms, _reasons(measurement, variant, harms))


def _announce(
    measurement: Measurement, flavour: Flavour, judge: Judge, report: Report, *, searches: bool
) -> None:
    steps = len(possible_steps(measurement, flavour))
    runs = steps * min(RANKING_TILES, len(judge)) + searches * MOST_TRIALS * len(judge)
    minutes = runs * judge.seconds_per_tile / 60
    trials = f" and up to {MOST_TRIALS} placements" if searches else ""
    report(
        f"{flavour.variant}: measuring {steps} layers one by one{trials}, about "
        f"{max(1, round(minutes))} minutes"
    )


def _failure(name: str, shortfalls: Sequence[str], harms: Sequence[Harm]) -> str:
    best = max(harms, key=lambda harm: harm.dice)
    return (
        f"{name} does not match fp32 on held-out tiles: {'; '.join(shortfalls)}. No smaller part "
        f"that was tried passes: the least harmful layer alone, {best.step.layer.name}, has a "
        f"lowest Dice of {best.dice:.4f} on the tiles that rank. Nothing was written"
    )


def _check_saving(variant: Int8Variant, shortfalls: Sequence[str], harms: Sequence[Harm]) -> None:
    every = [harm.step for harm in harms if harm.step.mode == "int8"]
    kept = [step.saving for step in every if step.layer.name in variant.layers]
    share = sum(kept) / sum(step.saving for step in every)
    if share < LEAST_SAVING:
        raise ParityError(
            f"{variant.flavour.variant} does not match fp32 on held-out tiles: "
            f"{'; '.join(shortfalls)}. The best part that passes, {len(kept)} layers of "
            f"{len(every)}, saves {share:.0%} of what every candidate would, expected at least "
            f"{LEAST_SAVING:.0%}. Nothing was written"
        )


class _Search:
    """Search that adds steps to the kept ones as long as all together pass."""

    def __init__(
        self,
        measurement: Measurement,
        flavour: Flavour,
        judge: Judge,
        gate: Gate,
        progress: StepProgress,
    ):
        self._measurement, self._flavour = measurement, flavour
        self._judge, self._gate, self._progress = judge, gate, progress
        self._trials, self._limit = 0, STEP_TRIALS
        self._best: tuple[Int8Variant, Judgement] | None = None

    def run(self, harms: Sequence[Harm]) -> tuple[Int8Variant, Judgement] | None:
        """Find the best variant that computes in int8, and its judgement; None without one."""
        steps = [harm.step for harm in harms]
        kept = self._halves((), steps)
        # Layers too harmful in int8 may still hold int8 weights.
        layers = {step.layer for step in kept}
        self._limit = self._trials + WEIGHT_TRIALS
        large = with_large_weights(step.layer for step in steps if step.layer not in layers)
        self._extend(kept, [Step(layer, "weights", 0) for layer in large])
        return self._best

    def _extend(self, kept: tuple[Step, ...], more: Sequence[Step]) -> tuple[Step, ...]:
        """Return `kept` and as many of `more` as pass with it, the first ones first."""
        if not more or self._trials >= self._limit:
            return kept
        if self._passes((*kept, *more)):
            return (*kept, *more)
        return kept if len(more) == 1 else self._halves(kept, more)

    def _halves(self, kept: tuple[Step, ...], more: Sequence[Step]) -> tuple[Step, ...]:
        middle = -(-len(more) // 2)
        return self._extend(self._extend(kept, more[:middle]), more[middle:])

    def _passes(self, steps: Sequence[Step]) -> bool:
        self._trials += 1
        self._progress(self._trials, MOST_TRIALS)
        variant = int8_variant(self._measurement, self._flavour, **chosen_by(steps))
        judgement = self._judge(variant.model)
        passes = not judgement.shortfalls(self._gate)
        if passes and variant.layers:
            self._best = variant, judgement
        return passes


def _reasons(
    measurement: Measurement, variant: Int8Variant, harms: Sequence[Harm]
) -> dict[str, str]:
    """Give the reason why each layer computes in float32, by its name."""
    dice = {harm.step.layer.name: harm.dice for harm in harms if harm.step.mode == "int8"}
    return {
        layer.name: variant.flavour.objection(layer)
        or f"too harmful: lowest Dice {dice[layer.name]:.4f} alone"
        for layer in measurement.layers
        if layer.name not in variant.layers
    }
