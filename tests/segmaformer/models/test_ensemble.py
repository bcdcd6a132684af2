from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.ensemble import Ensemble


@settings(max_examples=20)
@given(count=st.integers(1, 5), seed=st.integers(0, 1000))
def test_logits_are_the_mean(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    models = [torch.nn.Conv3d(2, 3, 1).double() for _ in range(count)]
    volume = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    with torch.inference_mode():
        found = Ensemble(models)(volume)
        torch.testing.assert_close(found, torch.stack([m(volume) for m in models]).mean(0))
        torch.testing.assert_close(found, Ensemble(models[::-1])(volume))


def test_a_network_with_itself_is_that_network() -> None:
    model = torch.nn.Conv3d(1, 2, 1)
    volume = torch.randn(1, 1, 2, 3, 4)
    with torch.inference_mode():
        assert torch.equal(Ensemble([model, model])(volume), model(volume))
