"""Colours for label maps that stay apart, for colour-blind readers too.

The first seven are those of Okabe and Ito (Color Universal Design, 2008) without black. Every
further one is the colour farthest from all before it, by the least of the distances under normal
sight, protanopia and deuteranopia. So a label value has the same colour in every picture, however
many labels there are.
"""

from __future__ import annotations

import numpy as np

OKABE_ITO = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7")

_LIGHTNESS = (0.45, 0.93)
_LEAST_CHROMA = 0.07

# Linear RGB as a dichromat sees it: Machado, Oliveira, Fernandes, "A physiologically-based
# model for simulation of color vision deficiency", IEEE TVCG 15(6), 2009, severity 1.
_SIGHTS = (
    np.eye(3),
    np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
)

# Linear RGB to Oklab (Björn Ottosson, "A perceptual color space for image processing", 2020).
_RGB_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def label_colours(count: int) -> np.ndarray:
    """Return the colours of the label values 1 to `count`.

    Returns
    -------
    numpy.ndarray
        Shape (count, 3), uint8 sRGB. A longer palette begins with every shorter one.

    Raises
    ------
    ValueError
        `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count is {count}; expected 0 or more")
    colours = [tuple(bytes.fromhex(colour)) for colour in OKABE_ITO]
    if count > len(colours):
        colours += _further_colours(count - len(colours))
    return np.array(colours[:count], np.uint8).reshape(count, 3)


def colour_distances(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute Oklab distances, each under the kind of sight for which it is smallest.

    Parameters
    ----------
    colours, others
        Shapes (n, 3) and (m, 3), uint8 sRGB.

    Returns
    -------
    numpy.ndarray
        Shape (n, m), float64; black and white are 1 apart.
    """
    gaps = _appearances(colours)[:, :, None] - _appearances(others)[:, None]
    return np.asarray(np.linalg.norm(gaps, axis=-1).min(0))


def _further_colours(count: int) -> list[tuple[int, ...]]:
    """Choose `count` colours after Okabe and Ito's, each as far as possible from those before."""
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    lightness, *ab = _oklab(_linear(candidates)).T
    vivid = (np.hypot(*ab) > _LEAST_CHROMA) & (lightness > _LIGHTNESS[0])
    candidates = candidates[vivid & (lightness < _LIGHTNESS[1])]
    nearest = colour_distances(candidates, label_colours(len(OKABE_ITO))).min(1)
    chosen = []
    for _ in range(count):
        colour = candidates[nearest.argmax()]
        chosen.append(tuple(colour.tolist()))
        nearest = np.minimum(nearest, colour_distances(candidates, colour[None])[:, 0])
    return chosen


def _appearances(colours: np.ndarray) -> np.ndarray:
    """Convert to Oklab under each kind of sight, shape (sights, n, 3)."""
    return np.stack([_oklab((_linear(colours) @ sight.T).clip(0, 1)) for sight in _SIGHTS])


def _linear(colours: np.ndarray) -> np.ndarray:
    """Convert uint8 sRGB to linear RGB from 0 to 1."""
    srgb = colours / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _oklab(linear: np.ndarray) -> np.ndarray:
    return np.asarray(np.cbrt(linear @ _RGB_TO_CONES.T) @ _CONES_TO_OKLAB.T)
