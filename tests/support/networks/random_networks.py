"""Small random configurations of every network, for hypothesis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from segmaformer.models import channel_counts, create_model, list_models
from segmaformer.models.pyramids.segmaformer_blocks import BLOCK_TYPES
from segmaformer.runtime.spec import Triple

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class RandomNetwork:
    """A configuration, and the extents of which a tile's must be multiples.

    Attributes
    ----------
    classifier
        Name of the last layer.
    tile
        Small tile (D, H, W) that it takes.
    """

    name: str
    config: dict[str, Any]
    factors: Triple
    tile: Triple
    classifier: str

    @property
    def channels(self) -> tuple[int, int]:
        """Numbers of input channels and of classes."""
        return channel_counts(self.config)

    def build(self, seed: int = 0) -> Any:
        """Build the network in evaluation mode, with random statistics and scales of its norms."""
        import torch

        torch.manual_seed(seed)
        model = create_model(self.name, **self.config).eval()
        for key, value in model.state_dict().items():
            if "gamma" in key:  # of layer scale, which begins at almost nothing
                value.uniform_(0.2, 0.8)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif key.endswith("running_mean"):
                value.normal_(0, 0.2)
        return model

    def tiles(self, batch: int = 1, seed: int = 1) -> Any:
        """Make random tiles (B, C, *tile)."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.channels[0], *self.tile, generator=generator)


def random_network(name: str) -> st.SearchStrategy[RandomNetwork]:
    """Return small networks of a name."""
    return st.composite(_DRAWN[name])(name)  # type: ignore[arg-type]


def _pyramid(draw: Draw, name: str) -> RandomNetwork:
    heads = [draw(st.integers(1, 2)) for _ in range(4)]
    config = {
        "in_channels": draw(st.integers(1, 3)),
        "num_classes": draw(st.integers(2, 4)),
        "embed_dims": [count * draw(st.integers(3, 6)) for count in heads],
        "depths": [1, 1, 1, draw(st.integers(1, 2))],
        "mlp_ratios": [draw(st.integers(1, 2)) for _ in heads],
        "num_heads": heads,
        "sr_ratios": [draw(st.sampled_from([2, 4])), *draw(st.permutations([1, 2])), 1],
        "patch_kernel_size": [3] * 4,
        "patch_stride": [2] * 4,
        "patch_padding": [1] * 4,
        "decoder_head_embedding_dim": draw(st.integers(4, 8)),
    }
    if name == "segformer3d":
        classifier = "segformer_decoder.linear_pred"
        return RandomNetwork(name, config, (1, 1, 1), (64, 16, 16), classifier)
    mixers = {
        "stage_block_types": [draw(st.sampled_from(BLOCK_TYPES)) for _ in heads],
        "d_state": [draw(st.integers(1, 4)) for _ in heads],
        "d_conv": [draw(st.integers(2, 4)) for _ in heads],
        "expand": [draw(st.integers(1, 2)) for _ in heads],
        "use_gate": draw(st.booleans()),
        "use_rope": draw(st.booleans()),
    }
    return RandomNetwork(name, {**config, **mixers}, (1, 1, 1), (64, 16, 16), "decoder.pred")


def _segmamba(draw: Draw, name: str) -> RandomNetwork:
    config = {
        **_scan(draw),
        "in_chans": draw(st.integers(1, 3)),
        "out_chans": draw(st.integers(2, 4)),
        "depths": [1, draw(st.integers(1, 2)), 1, 1],
        "feat_size": [draw(st.integers(2, 6)) for _ in range(4)],
        "hidden_size": draw(st.integers(4, 8)),
        "mlp_ratio": draw(st.integers(1, 2)),
        "nslices": draw(st.sampled_from([None, [16, 8, 4, 2], [1, 2, 4, 1]])),
        "mamba_residual": draw(st.booleans()),
    }
    return RandomNetwork(name, config, (16, 16, 16), (64, 16, 16), "out.conv.conv")


def _segresmamba(draw: Draw, name: str) -> RandomNetwork:
    config = {
        **_scan(draw),
        "in_chans": draw(st.integers(1, 3)),
        "out_chans": draw(st.integers(2, 4)),
        "feat_size": [8 * draw(st.integers(1, 2)) for _ in range(4)],  # its group norms have 8
        "mlp_ratio": draw(st.integers(1, 2)),
    }
    return RandomNetwork(name, config, (16, 16, 16), (112, 16, 16), "out")


def _planned(draw: Draw, name: str) -> RandomNetwork:
    stages = draw(st.integers(2, 3))
    later = st.sampled_from([[1, 2, 2], [2, 2, 2], [2, 1, 2]])
    strides = [[1, 1, 1], *(draw(later) for _ in range(stages - 1))]
    depth, height, width = (math.prod(column) for column in zip(*strides, strict=True))
    multiples = st.sampled_from([(2, 2, 2), (1, 2, 3), (3, 1, 2)])
    tile = [n * f for n, f in zip(draw(multiples), (depth, height, width), strict=True)]
    config = {
        "input_channels": draw(st.integers(1, 3)),
        "num_classes": draw(st.integers(2, 4)),
        "features_per_stage": [draw(st.integers(2, 6)) for _ in range(stages)],
        "kernel_sizes": [draw(st.sampled_from([[1, 3, 3], [3, 3, 3]])) for _ in range(stages)],
        "strides": strides,
        "n_conv_per_stage_encoder": [draw(st.integers(1, 2)) for _ in range(stages)],
        "n_conv_per_stage_decoder": [draw(st.integers(1, 2)) for _ in range(stages - 1)],
    }
    family, _, kind = name.partition("-")
    if family == "nnunet":
        config["conv_bias"] = draw(st.booleans())
        config["norm"] = draw(st.sampled_from(["instance", "batch"]))
    elif family == "taming":
        config["conv_bias"] = draw(st.booleans())
        config["d_state_rule"] = f"min(channels, {draw(st.integers(1, 6))})"
        config["d_conv"] = draw(st.integers(2, 4))
    else:
        config |= _scan(draw)
        config["generation"] = draw(st.sampled_from([1, 2]))
        if kind == "enc":
            config["input_size"] = tile
    classifier = f"decoder.seg_layers.{stages - 2}"
    return RandomNetwork(name, config, (depth, height, width), tuple(tile), classifier)


def _scan(draw: Draw) -> dict[str, Any]:
    return {
        "d_state": draw(st.integers(1, 4)),
        "d_conv": draw(st.integers(2, 4)),
        "expand": draw(st.integers(1, 2)),
    }


_DRAWN = {
    "segmaformer": _pyramid,
    "segformer3d": _pyramid,
    "segmamba": _segmamba,
    "segresmamba": _segresmamba,
} | {name: _planned for name in list_models() if name.startswith(("nnunet", "taming", "umamba"))}
