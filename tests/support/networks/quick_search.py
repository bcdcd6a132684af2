"""Search that measures few layers, for tests of the consequences of its failure."""

from __future__ import annotations

import pytest


def hasten_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure three layers and judge no placement, so that a search ends soon, without any."""
    from segmaformer.calibration import search, sensitivity

    steps = sensitivity.possible_steps
    monkeypatch.setattr(sensitivity, "possible_steps", lambda *given: steps(*given)[:3])
    monkeypatch.setattr(search, "STEP_TRIALS", 0)
    monkeypatch.setattr(search, "WEIGHT_TRIALS", 0)
