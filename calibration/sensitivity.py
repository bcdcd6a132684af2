"""Harm and saving of each layer that computes in int8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from segmaformer.calibration.flavours import Flavour
from segmaformer.calibration.int8_variant import int8_variant, with_large_weights
from segmaformer.calibration.judge import Judge
from segmaformer.calibration.layers import Layer
from segmaformer.calibration.measurement import Measurement
from segmaformer.runtime.progress import StepProgress

RANKING_TILES = 6
"""Number of tiles that one layer alone is measured on; a whole placement is judged on all."""
_LEAST_HARM = 1e-6


@dataclass(frozen=True)
class Step:
    """One layer brought to int8: all of its arithmetic, or only the weights it holds.

    Attributes
    ----------
    saving
        Half the layer's share of the network's multiplications, if they become int8, and half its
        share of the weights.
    """

    layer: Layer
    mode: Literal["int8", "weights"]
    saving: float


@dataclass(frozen=True)
class Harm:
    """Effect of one step alone on held-out tiles, all other layers being float32.

    Attributes
    ----------
    dice
        Dice with float32, of the label that suffers most.
    changed
        Share of voxels with another label, 0 to 1.
    error
        Largest difference of logits over their range; ranks steps that change no label.
    """

    step: Step
    dice: float
    changed: float
    error: float

    @property
    def harm(self) -> float:
        """Dice that is lost, 0 to 1."""
        return 1 - self.dice

    @property
    def price(self) -> tuple[float, float, float]:
        """Sort key from cheap to dear: harm for the saving, then finer signs of harm."""
        return max(self.harm, _LEAST_HARM) / self.step.saving, self.changed, self.error

    def record(self) -> dict[str, Any]:
        """Describe the harm for the manifest."""
        return {
            "layer": self.step.layer.name,
            "mode": self.step.mode,
            "saving": round(self.step.saving, 6),
            "lowest_dice": round(self.dice, 6),
            "changed_labels": round(self.changed, 8),
            "relative_error": round(self.error, 8),
        }


def possible_steps(measurement: Measurement, flavour: Flavour) -> tuple[Step, ...]:
    """List every candidate in int8, and the large weights of other layers."""
    layers = measurement.layers
    macs, parameters = (
        max(1, sum(getattr(layer, name) for layer in layers)) for name in ("macs", "parameters")
    )
    candidates = flavour.candidates(layers)
    held = [layer for layer in with_large_weights(layers) if layer not in candidates]
    return (
        *(
            Step(layer, "int8", layer.macs / macs / 2 + layer.parameters / parameters / 2)
            for layer in candidates
        ),
        *(Step(layer, "weights", layer.parameters / parameters / 2) for layer in held),
    )


def measure_harms(
    measurement: Measurement,
    flavour: Flavour,
    judge: Judge,
    *,
    progress: StepProgress = lambda done, count: None,
) -> tuple[Harm, ...]:
    """Measure the harm of each possible step alone, and sort from cheap to dear."""
    steps = possible_steps(measurement, flavour)
    harms = []
    for index, step in enumerate(steps):
        progress(index, len(steps))
        variant = int8_variant(measurement, flavour, **chosen_by([step]))
        parity = judge(variant.model, most_tiles=RANKING_TILES).parity
        harms.append(
            Harm(step, min(parity.dice.values()), 1 - parity.agreement, parity.relative_error)
        )
    progress(len(steps), len(steps))
    return tuple(sorted(harms, key=lambda harm: harm.price))


def chosen_by(steps: Iterable[Step]) -> dict[str, list[Layer]]:
    """Return :func:`segmaformer.calibration.int8_variant.int8_variant`'s arguments for steps."""
    steps = tuple(steps)
    return {
        "layers": [step.layer for step in steps if step.mode == "int8"],
        "weights_only": [step.layer for step in steps if step.mode == "weights"],
    }


def harm_table(harms: Iterable[Harm], kept: Mapping[str, str], most: int = 20) -> list[str]:
    """Return lines of text: the most harmful layers first, with their entry of `kept` by name."""
    ranked = sorted(harms, key=lambda harm: (harm.harm, harm.changed, harm.error), reverse=True)
    width = max((len(harm.step.layer.name) for harm in ranked[:most]), default=5)
    lines = [f"{'layer':<{width}}  kind       lost Dice  changed   saves   kept"]
    for harm in ranked[:most]:
        layer = harm.step.layer
        lines.append(
            f"{layer.name:<{width}}  {layer.kind:<9}  {harm.harm:9.6f}  {harm.changed:7.4%}  "
            f"{harm.step.saving:6.2%}  {kept.get(layer.name, 'no')}"
        )
    rest = len(ranked) - most
    return [*lines, f"and {rest} less harmful"] if rest > 0 else lines
