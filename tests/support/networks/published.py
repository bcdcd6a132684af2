"""Outputs of the published networks, and the same networks with the same weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.scripts import load_script

SEGMAFORMER_CASES = ("segmaformer_brats_mhha_64", "segmaformer_btcv_fixed_mhha_32x96x96")
CASES = (
    *SEGMAFORMER_CASES,
    "segformer3d_64",
    "segmamba_tom_64",
    "segresmamba_64",
    "taming_segmamba",
    "taming_bisegmamba",
    "taming_multisegmamba",
    "taming_segmambaskip",
    "umamba_bot",
    "umamba_enc",
)
"""Files of the golden folder that hold a network."""

TITLES = {
    "SegFormer3D": "segformer3d",
    "SegMaFormer": "segmaformer",
    "SegMamba": "segmamba",
    "SegResMamba": "segresmamba",
    "Taming.SegMamba": "taming-segmamba",
    "Taming.BiSegMamba": "taming-bisegmamba",
    "Taming.MultiSegMamba": "taming-multisegmamba",
    "Taming.SegMambaSkip": "taming-segmambaskip",
    "U-Mamba.UMambaBot": "umamba-bot",
    "U-Mamba.UMambaEnc": "umamba-enc",
}


@dataclass(frozen=True, eq=False)
class PublishedCase:
    """One file of the golden folder.

    Attributes
    ----------
    arch, config
        What to give to ``create_model``.
    shapes
        Shape of every weight by its name.
    seed, stride
        Of weights and input, and of the stored output.
    tiles
        Input, (1, C, D, H, W) float32.
    output, noise
        Every `stride`-th voxel of the logits, and their float32 rounding.
    """

    arch: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    seed: int
    stride: int
    tiles: np.ndarray
    output: np.ndarray
    noise: float
    fill: Any

    def load_into(self, model: Any) -> Any:
        """Fill `model` with the case's weights and return it in evaluation mode."""
        self.fill.load_into(model, self.seed)
        return model.eval()

    def error(self, logits: np.ndarray) -> float:
        """Return the largest deviation from the published output, in units of its rounding."""
        sparse = logits[..., :: self.stride, :: self.stride, :: self.stride]
        return float(np.abs(sparse - self.output).max()) / self.noise


def published_case(golden_dir: Path, name: str) -> PublishedCase:
    """Read the file `name`.npz of the golden folder."""
    fill: Any = load_script(golden_dir / "fill.py")
    golden = np.load(golden_dir / f"{name}.npz")
    seed = int(golden["seed"])
    return PublishedCase(
        arch=TITLES[str(golden["arch"])],
        config=_config(str(golden["arch"]), json.loads(str(golden["config"]))),
        shapes={key: tuple(shape) for key, shape in json.loads(str(golden["keys"]))},
        seed=seed,
        stride=int(golden["stride"]),
        tiles=fill.input(golden["input_shape"], seed),
        output=golden["output"],
        noise=float(golden["noise"]),
        fill=fill,
    )


def _config(title: str, config: dict[str, Any]) -> dict[str, Any]:
    """Thin U-Mamba's blocks, of which golden files state the plan's numbers."""
    if not title.startswith("U-Mamba."):
        return config
    from segmaformer.models.planned_unets.umamba import thinned

    depths = ("n_conv_per_stage_encoder", "n_conv_per_stage_decoder")
    config = {key: value for key, value in config.items() if key != "conv_bias"}
    return {**config, **dict(zip(depths, thinned(*(config[key] for key in depths)), strict=True))}
