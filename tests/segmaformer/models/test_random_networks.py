"""Properties of every network, on small random configurations."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from support.networks.random_networks import RandomNetwork, random_network

from segmaformer.models import create_model, list_models

every_network = pytest.mark.parametrize("name", list_models())
few = settings(max_examples=2, derandomize=True, phases=[Phase.explicit, Phase.generate])
"""Without a search for the simplest failure, which would take minutes."""


def logits(model: Any, tiles: Any) -> Any:
    with torch.inference_mode():
        return model(tiles)


def drawn(data: st.DataObject, name: str) -> RandomNetwork:
    network: RandomNetwork = data.draw(random_network(name))
    return network


@every_network
@few
@given(data=st.data())
def test_tiles_of_a_batch_do_not_see_each_other(name: str, data: st.DataObject) -> None:
    network = drawn(data, name)
    model, tiles = network.build(), network.tiles(batch=2)
    together = logits(model, tiles * torch.tensor([1.0, 30.0]).view(2, 1, 1, 1, 1))
    assert together.shape == (2, network.channels[1], *network.tile)
    torch.testing.assert_close(together[:1], logits(model, tiles[:1]), rtol=1e-3, atol=1e-4)


@every_network
@few
@given(data=st.data())
def test_weights_survive_a_file(name: str, data: st.DataObject) -> None:
    network = drawn(data, name)
    model, tiles = network.build(seed=1), network.tiles()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = network.build(seed=2)
    assert not torch.equal(logits(other, tiles), logits(model, tiles))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(logits(other, tiles), logits(model, tiles))


@every_network
@few
@given(data=st.data())
def test_classes_are_in_the_order_of_the_last_layer(name: str, data: st.DataObject) -> None:
    network = drawn(data, name)
    model, tiles = network.build(), network.tiles()
    order = data.draw(st.permutations(range(network.channels[1])))
    before = logits(model, tiles)
    last = model.get_submodule(network.classifier)
    axis = 1 if isinstance(last, torch.nn.ConvTranspose3d) else 0
    with torch.no_grad():
        last.weight.copy_(last.weight.index_select(axis, torch.tensor(order)))
        last.bias.copy_(last.bias[order])
    torch.testing.assert_close(logits(model, tiles), before[:, order])


@every_network
@few
@given(data=st.data())
def test_gradients_are_finite_differences(name: str, data: st.DataObject) -> None:
    """Along a random direction of all weights and the input together, in float64."""
    network = drawn(data, name)
    model, tiles = network.build().double(), network.tiles().double()
    places = [tiles.requires_grad_(), *model.parameters()]
    weights = torch.randn(1, network.channels[1], *network.tile, dtype=torch.float64)

    def score() -> Any:
        return (model(tiles) * weights).mean()

    gradients = torch.autograd.grad(score(), places, allow_unused=True)
    directions = [torch.randn_like(place) for place in places]
    along = sum(
        (gradient * direction).sum()
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    step = 1e-10  # norms of few voxels are steep, so kinks of activations lie close together
    found = []
    with torch.no_grad():
        for place, direction in zip(places, directions, strict=True):
            place.add_(direction, alpha=step)
        found.append(score())
        for place, direction in zip(places, directions, strict=True):
            place.sub_(direction, alpha=2 * step)
        found.append(score())
    difference = (found[0] - found[1]) / (2 * step)
    torch.testing.assert_close(difference, along, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [n for n in list_models() if n not in ("segformer3d", "segmaformer")]
)
@few
@given(data=st.data())
def test_extents_that_the_stages_cannot_divide_are_refused(name: str, data: st.DataObject) -> None:
    network = drawn(data, name)
    axis = data.draw(st.sampled_from([a for a in range(3) if network.factors[a] > 1]))
    extents = list(network.tile)
    extents[axis] += data.draw(st.integers(1, network.factors[axis] - 1))
    with torch.device("meta"):
        model = create_model(name, **network.config)
        volume = torch.zeros(1, network.channels[0], *extents)
        with pytest.raises(ValueError, match=r"must be multiples of \(") as refusal:
            model(volume)
    assert str(tuple(extents)) in str(refusal.value)
    assert str(network.factors) in str(refusal.value)


@every_network
@few
@given(data=st.data())
def test_other_numbers_of_channels_or_axes_are_refused(name: str, data: st.DataObject) -> None:
    network = drawn(data, name)
    channels = network.channels[0]
    wrong = data.draw(st.sampled_from([channels + 1, channels - 1]))
    with torch.device("meta"):
        model = create_model(name, **network.config)
        for shape in ((1, wrong, *network.tile), (channels, *network.tile)):
            with pytest.raises(ValueError, match=rf"expected \(B, {channels}, D, H, W\)"):
                model(torch.zeros(shape))
