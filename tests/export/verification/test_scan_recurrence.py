from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.graphs.scan_models import FLOAT32, OPTIONAL, make_inputs

torch = pytest.importorskip("torch")

from segmaformer.export.verification import scan_recurrence
from segmaformer.export.verification.scan_recurrence import scan_by_definition
from segmaformer.ops.reference import selective_scan_reference


@pytest.mark.parametrize(
    ("optional", "softplus", "reverse"),
    list(itertools.product([(), ("D",), OPTIONAL], [False, True], [False, True])),
)
@pytest.mark.parametrize("at_once", [1, 900, 2**20])
def test_agrees_with_pytorch_in_float64(
    optional: tuple[str, ...],
    softplus: bool,
    reverse: bool,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan_recurrence, "STATES_AT_ONCE", at_once)
    inputs = make_inputs(FLOAT32, optional)
    inputs["delta"] = np.abs(inputs["delta"])
    found = scan_by_definition(inputs, delta_softplus=softplus, reverse=reverse)
    tensors = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    expected = selective_scan_reference(**tensors, delta_softplus=softplus, reverse=reverse).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    assert found.dtype == np.float64


def test_three_tokens_by_hand() -> None:
    one = np.ones((1, 3, 1))
    inputs = {"u": one, "delta": one, "A": np.full((1, 1), -np.log(2)), "B": one, "C": one}
    found = scan_by_definition(inputs, delta_softplus=False, reverse=False)
    np.testing.assert_allclose(found[0, :, 0], [1, 1.5, 1.75])
    inputs["u"] = np.array([1, 2, 4.0])[None, :, None]
    found = scan_by_definition(inputs, delta_softplus=False, reverse=True)
    np.testing.assert_allclose(found[0, :, 0], [1 + 2 / 2 + 4 / 4, 2 + 4 / 2, 4])
