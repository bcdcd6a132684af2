"""What int8 may cost, in words a person can check: Dice with float32 and with label maps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """What a quantised network must reach, for every label.

    Attributes
    ----------
    least_dice
        Dice with the float32 network.
    largest_loss
        Dice with label maps, where there are any, that may be lost against float32.
    """

    least_dice: float = 0.995
    largest_loss: float = 0.005
