"""Bounds on the cost of int8, in Dice with float32 and with label maps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """Bounds that a quantised network must keep, for every label.

    Attributes
    ----------
    least_dice
        Least Dice with the float32 network, 0 to 1.
    largest_loss
        Largest loss against float32 of Dice with the label maps, if there are any, 0 to 1.
    """

    least_dice: float = 0.995
    largest_loss: float = 0.005
