"""A network written by a training record is read back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segmaformer.checkpoint import TrainingRecord, load_checkpoint
from segmaformer.models import channel_counts, create_model, model_config
from segmaformer.runtime.errors import InputError
from tests.support.networks.networks import TINY_CONFIG, TINY_TILE

torch = pytest.importorskip("torch")
SMALL: dict[str, dict[str, Any]] = {
    "segmaformer": TINY_CONFIG,
    "segformer3d": {},
    "segmamba": {"feat_size": [4, 8, 8, 16], "hidden_size": 16, "depths": [1, 1, 1, 1]},
}


def record(network: str = "segmaformer", **changes: Any) -> TrainingRecord:
    """Return a record whose spacing and patch differ along every axis."""
    configuration = model_config(network, **SMALL[network])
    channels, classes = channel_counts(configuration)
    names = ["background", *(f"structure {index}" for index in range(1, classes))]
    stated = TrainingRecord(
        network=network,
        configuration=configuration,
        patch_size=TINY_TILE,
        spacing_mm=(3.0, 1.5, 1.25),
        channels=[f"channel {index}" for index in range(channels)],
        labels={name: value for value, name in enumerate(names)},
        normalizations=["ZScoreNormalization"] * channels,
    )
    return replace(stated, **changes)


@pytest.mark.parametrize("network", SMALL)
def test_the_checkpoint_holds_network_and_use(network: str, tmp_path: Path) -> None:
    stated = record(network, mirror_axes=(0, 2), patch_size=(32, 32, 64))
    torch.manual_seed(0)
    weights = create_model(network, **stated.configuration).state_dict()
    stated.save(weights, tmp_path / "checkpoint_final.pth", epoch=7)
    found = load_checkpoint(tmp_path / "checkpoint_final.pth")
    assert found.config == stated.configuration
    assert found.preprocessing == stated.preprocessing()
    assert found.preprocessing.spacing == stated.spacing_mm
    assert found.tiling.tile == stated.patch_size
    assert found.tiling.mirror_axes == (0, 2)
    assert all(torch.equal(found.model.state_dict()[name], weights[name]) for name in weights)


def test_ct_is_clipped_by_the_recorded_intensities() -> None:
    intensities = {"mean": 90.0, "std": 30.0, "percentile_00_5": -50.0, "percentile_99_5": 200.0}
    stated = record(normalizations=["CTNormalization"], intensities=[intensities])
    (scheme,) = stated.preprocessing().normalization
    assert (scheme.mean, scheme.std) == (90.0, 30.0)
    assert (scheme.lower, scheme.upper) == (-50.0, 200.0)


def test_ct_without_intensities_is_refused() -> None:
    with pytest.raises(InputError, match="intensit"):
        record(normalizations=["CTNormalization"]).preprocessing()


def test_the_licence_goes_into_the_package(tmp_path: Path) -> None:
    stated = record(licence="CC BY 4.0")
    assert stated.dataset_json()["licence"] == "CC BY 4.0"
    assert "licence" not in record().dataset_json()
