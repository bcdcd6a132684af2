"""Conversion of logits to labels."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.spec import Output


def label_dtype(output: Output) -> type[np.unsignedinteger]:
    """Return uint8 if that holds every value, else uint16."""
    values = [label.value for label in output.labels] + [region.value for region in output.regions]
    return np.uint8 if max(values) <= np.iinfo(np.uint8).max else np.uint16


def logits_to_labels(logits: np.ndarray, output: Output) -> np.ndarray:
    """Choose the label of each voxel.

    Parameters
    ----------
    logits
        Shape (K, ...), float32.
    output
        Meaning of the logits. Without regions the largest logit wins, the first of equals. With
        regions, each with a probability above one half paints its value, later ones over earlier.

    Returns
    -------
    np.ndarray
        Shape ``logits.shape[1:]``, of :func:`label_dtype`.
    """
    dtype = label_dtype(output)
    if not output.regions:
        return logits.argmax(axis=0).astype(dtype)
    labels = np.zeros(logits.shape[1:], dtype)
    for channel, region in zip(logits, output.regions, strict=True):
        labels[channel > 0] = region.value
    return labels
