"""Layers that train faster on a CPU, beside the published ones."""

from __future__ import annotations

import copy

import torch

from segmaformer.models import create_model
from segmaformer.models.cpu_layers import speed_up


def test_faster_layers_compute_the_same() -> None:
    torch.manual_seed(0)
    network = create_model("segmaformer", preset="acdc_fixed").double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "gamma" in name:
                parameter.fill_(0.3)
    faster = speed_up(copy.deepcopy(network))
    tile = torch.randn(2, 1, 4, 64, 64, dtype=torch.float64)
    expected, found = network(tile), faster(tile)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.detach().std()))
    for logits in (expected, found):
        logits.square().mean().backward()
    largest = max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)
    for (name, before), after in zip(network.named_parameters(), faster.parameters(), strict=True):
        torch.testing.assert_close(
            after.grad, before.grad, rtol=1e-6, atol=1e-6 * largest, msg=f"gradient of {name}"
        )
