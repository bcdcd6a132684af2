from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.models import create_model

SMALL: dict[str, Any] = {
    "in_chans": 1,
    "out_chans": 2,
    "feat_size": [8, 16, 24, 32],
    "d_state": 3,
}
DEAD = ("segresnet.convInit.", "segresnet.down_layers.", "segresnet.conv_final.")


def test_scan_needs_even_grids() -> None:
    model = create_model("segresmamba", **SMALL, use_tom=True)
    with pytest.raises(ValueError, match="its extents must be even"):
        model(torch.zeros(1, 1, 32, 32, 64))


@pytest.mark.parametrize("use_tom", [False, True])
def test_what_learns(use_tom: bool) -> None:
    model = create_model("segresmamba", **SMALL, use_tom=use_tom)
    logits = model(torch.randn(1, 1, 64, 64, 64))
    assert logits.shape == (1, 2, 64, 64, 64)
    logits.square().mean().backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    dead = {name for name, _ in model.named_parameters() if name.startswith(DEAD)}
    scans = {name for name, _ in model.named_parameters() if ".mamba_layer." in name}
    assert unused == (dead if use_tom else dead | scans)


def test_dead_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        model = create_model("segresmamba")
    dead = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith(DEAD) or ".mamba_layer." in name
    )
    assert dead == 41_139_364


def test_odd_stage_keeps_its_extent() -> None:
    model = create_model("segresmamba", **SMALL).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 1, 48, 48, 48)).shape == (1, 2, 48, 48, 48)


def test_odd_stage_loses_the_first_voxel() -> None:
    torch.manual_seed(0)
    block = create_model("segresmamba", **SMALL).eval().vit.gscs[0]
    volume = torch.randn(1, 8, 5, 6, 6)
    captured = []
    block.proj5.register_forward_hook(lambda *arguments: captured.append(arguments[-1]))
    with torch.inference_mode():
        result = block(volume) - volume
        expected = torch.nn.functional.instance_norm(captured[0]).relu()[:, :, 1:]
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 32, 32, 32), r"expected \(B, 1, D, H, W\)"),
        ((1, 1, 32, 40, 32), r"multiples of \(16, 16, 16\)"),
    ],
)
def test_inputs_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    model = create_model("segresmamba", **SMALL)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(shape))
