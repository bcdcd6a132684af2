from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.aliases import drop_aliases, original_name
from segmaformer.runtime.errors import InputError


@pytest.mark.parametrize(
    ("key", "original"),
    [
        ("encoder.stem.convs.0.all_modules.0.weight", "encoder.stem.convs.0.conv.weight"),
        ("encoder.stem.convs.0.all_modules.1.bias", "encoder.stem.convs.0.norm.bias"),
        ("decoder.encoder.mamba_layers.0.norm.bias", "encoder.mamba_layers.0.norm.bias"),
        ("decoder.encoder.stem.convs.0.all_modules.0.bias", "encoder.stem.convs.0.conv.bias"),
        ("decoder.stages.0.blocks.0.conv1.conv.bias", "decoder.stages.0.blocks.0.conv1.conv.bias"),
    ],
)
def test_original_name(key: str, original: str) -> None:
    assert original_name(key) == original


def test_only_repetitions_are_dropped() -> None:
    weight, other = torch.ones(2), torch.zeros(2)
    weights = {
        "encoder.a.conv.weight": weight,
        "encoder.a.all_modules.0.weight": weight.clone(),
        "decoder.encoder.a.conv.weight": weight,
        "decoder.encoder.b.weight": other,
    }
    assert list(drop_aliases(weights)) == ["encoder.a.conv.weight", "decoder.encoder.b.weight"]


def test_repetitions_that_differ() -> None:
    weights = {"a.conv.weight": torch.ones(2), "a.all_modules.0.weight": torch.zeros(2)}
    with pytest.raises(InputError, match="one weight under two names"):
        drop_aliases(weights)
