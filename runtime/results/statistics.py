"""Place, size and intensities of each label.

One pass over the planes of the scan; nothing larger than a plane is allocated for any number of
labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmaformer.runtime.spec import Box

MM3_PER_ML = 1000


def label_statistics(
    labels: np.ndarray,
    voxels: np.ndarray,
    affine: np.ndarray,
    label_names: Mapping[int, str],
    voxel_volumes_mm3: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Measure every label of a package, absent ones included.

    Parameters
    ----------
    labels
        Shape (X, Y, Z), unsigned integers; 0 is background.
    voxels
        Shape (C, X, Y, Z), float32: the scan in its own units.
    affine
        Shape (4, 4): voxel indices to RAS+ millimetres.
    label_names
        Name of every value that `labels` may hold, without the background.
    voxel_volumes_mm3
        Known volumes of a voxel in mm3, by their source; the first one counts. None computes it
        from `affine`.

    Returns
    -------
    dict
        Document for JSON: ``voxel_volume_mm3`` and ``labels``, a list in the order of values with
        an object for each label:

        * ``name``, ``value``, ``voxel_count``, ``volume_mm3``; if `voxel_volumes_mm3` has several,
          also ``volumes_mm3`` by source, and ``voxel_volumes_mm3`` beside ``labels``
        * ``bounding_box``: ``min`` and ``max`` voxel index along each axis, both
          inclusive, in the order in which the scan is stored
        * ``bounding_box_mm``: ``min`` and ``max`` in RAS+ of that box's outer corners,
          half a voxel beyond the centres; on an oblique grid it is the upright box
          around the turned one
        * ``centroid_mm``: mean voxel centre in RAS+
        * ``intensity_mean``, ``intensity_std``: one number for each channel;
          the deviation is that of the population
        * ``touches_border``: the label reaches the edge of the scan, which may have
          cut it off

        If a label is absent, its count is 0 and undefined entries are None.

    Raises
    ------
    TypeError
        `labels` are not integers.
    ValueError
        Shapes disagree, or `labels` has a value without a name.
    """
    _check_shapes(labels, voxels, affine)
    moments = _measure(labels, voxels, size=max([int(labels.max(initial=0)), *label_names]) + 1)
    unknown = sorted(set(moments.count.nonzero()[0].tolist()) - set(label_names))
    if unknown:
        raise ValueError(
            f"the label map holds {', '.join(map(str, unknown))}; "
            f"expected values among {', '.join(map(str, [0, *sorted(label_names)]))}"
        )
    known = dict(voxel_volumes_mm3 or {"affine": float(abs(np.linalg.det(affine[:3, :3])))})
    return {
        **_volumes("voxel_volume", known, 1),
        "labels": [
            {
                "name": label_names[value],
                "value": value,
                "voxel_count": int(moments.count[value]),
                **_volumes("volume", known, int(moments.count[value])),
                **_position(moments.box(value), moments.centroid[value], labels.shape, affine),
                **_intensity(moments, value),
            }
            for value in sorted(label_names)
        ],
    }


def _volumes(name: str, voxel_mm3: Mapping[str, float], count: int) -> dict[str, Any]:
    """Return the volume of `count` voxels by the first source, and by each if there are several."""
    volumes = {source: count * volume for source, volume in voxel_mm3.items()}
    believed = {f"{name}_mm3": next(iter(volumes.values()))}
    return believed if len(volumes) == 1 else {**believed, f"{name}s_mm3": volumes}


@dataclass(frozen=True)
class _Moments:
    """Sums for each label value; entry 0, the background, stays empty.

    `count` (K), `centroid` (K, 3) in voxels, `mean` and `variance` (C, K); `held`: which planes
    across each axis hold the label (K, X), (K, Y), (K, Z).
    """

    count: np.ndarray
    centroid: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    held: Sequence[np.ndarray]

    def box(self, value: int) -> Box | None:
        """Return the smallest box around a label; None without a voxel."""
        if self.count[value] == 0:
            return None
        places = [held[value].nonzero()[0] for held in self.held]
        x, y, z = (slice(int(along[0]), int(along[-1]) + 1) for along in places)
        return x, y, z


def _check_shapes(labels: np.ndarray, voxels: np.ndarray, affine: np.ndarray) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels are {labels.dtype}; expected integers")
    if labels.ndim != 3 or voxels.shape[1:] != labels.shape:
        raise ValueError(
            f"labels of shape {labels.shape} do not fit voxels of shape {voxels.shape}; "
            "expected (X, Y, Z) and (C, X, Y, Z)"
        )
    if affine.shape != (4, 4):
        raise ValueError(f"the affine has shape {affine.shape}; expected (4, 4)")


def _measure(labels: np.ndarray, voxels: np.ndarray, *, size: int) -> _Moments:
    """Accumulate plane by plane.

    Means and variances are merged as in Chan, Golub, LeVeque, "Algorithms for computing the sample
    variance" (The American Statistician 37(3), 1983): sums of squares would cancel for intensities
    that are large and alike.
    """
    count = np.zeros(size, np.int64)
    held = [np.zeros((size, extent), bool) for extent in labels.shape]
    index_sum = np.zeros((3, size))
    mean, squares = np.zeros((2, len(voxels), size))
    for x, plane in enumerate(labels):
        y, z = plane.nonzero()
        values = plane[y, z].astype(np.intp)
        added = np.bincount(values, minlength=size)
        held[0][:, x] = added > 0
        held[1][values, y] = held[2][values, z] = True
        index_sum += (
            x * added,
            np.bincount(values, y, minlength=size),
            np.bincount(values, z, minlength=size),
        )
        share = added / np.maximum(count + added, 1)
        for channel, image in enumerate(voxels):
            intensity = image[x, y, z].astype(np.float64)
            plane_mean = np.bincount(values, intensity, minlength=size) / np.maximum(added, 1)
            deviation = (intensity - plane_mean[values]) ** 2
            step = plane_mean - mean[channel]
            squares[channel] += np.bincount(values, deviation, minlength=size)
            squares[channel] += step**2 * count * share
            mean[channel] += step * share
        count += added
    present = np.maximum(count, 1)
    return _Moments(count, (index_sum / present).T, mean, squares / present, held)


def _position(
    box: Box | None, centroid: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> dict[str, Any]:
    if box is None:
        return {
            "bounding_box": None,
            "bounding_box_mm": None,
            "centroid_mm": None,
            "touches_border": False,
        }
    lower = np.array([side.start for side in box])
    upper = np.array([side.stop - 1 for side in box])
    edges = np.array([lower - 0.5, upper + 0.5])
    corners = np.stack(np.meshgrid(*edges.T), axis=-1).reshape(-1, 3)
    corners_mm = corners @ affine[:3, :3].T + affine[:3, 3]
    return {
        "bounding_box": {"min": lower.tolist(), "max": upper.tolist()},
        "bounding_box_mm": {
            "min": corners_mm.min(0).tolist(),
            "max": corners_mm.max(0).tolist(),
        },
        "centroid_mm": (affine[:3, :3] @ centroid + affine[:3, 3]).tolist(),
        "touches_border": bool((lower == 0).any() or (upper == np.array(shape) - 1).any()),
    }


def _intensity(moments: _Moments, value: int) -> dict[str, Any]:
    if moments.count[value] == 0:
        return {"intensity_mean": None, "intensity_std": None}
    return {
        "intensity_mean": moments.mean[:, value].tolist(),
        "intensity_std": np.sqrt(moments.variance[:, value]).tolist(),
    }
