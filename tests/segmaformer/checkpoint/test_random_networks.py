"""Detection of random configurations of every network from the shapes of their weights."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from support.networks.random_networks import random_network

from segmaformer.checkpoint.recognition import decide, find_networks
from segmaformer.models import create_model, list_models

UNSEEN = ("num_heads", "input_size")
"""Keys that no weight shows, which plans or the caller give."""


def shapes_of(name: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = create_model(name, **config)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", list_models())
@settings(max_examples=5)
@given(data=st.data(), prefix=st.sampled_from(["", "model.", "a.network."]))
def test_the_detected_network_takes_the_weights(
    name: str, data: st.DataObject, prefix: str
) -> None:
    network = data.draw(random_network(name))
    shapes = shapes_of(name, network.config)
    (found,) = find_networks([prefix + key for key in shapes])
    assert found.prefix == prefix
    row = decide(found, arch=name, trainer=None)
    unseen = (*UNSEEN, "strides") if name.startswith("umamba") else UNSEEN
    given_ = {key: network.config[key] for key in unseen if key in network.config}
    config, _ = row.support.infer_config(shapes, trainer=None, given=given_)
    assert shapes_of(name, config) == shapes
