from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support.native.resampling import axis_weights, separate_axis

from segmaformer.runtime.pipeline.resampling import resample, target_shape
from segmaformer.runtime.spec import Resampling, Spacing, Triple

transform = pytest.importorskip("skimage.transform")

ISOTROPIC: Spacing = (1.0, 1.0, 1.0)
TOGETHER = {"spacing_mm": ISOTROPIC, "new_spacing_mm": ISOTROPIC}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 100, shape).astype(np.float32)


def resize(values: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Resize as nnU-Net does, in float64."""
    return transform.resize(values.astype(float), shape, order, mode="edge", anti_aliasing=False)


def resize_separately(
    channel: np.ndarray, shape: Triple, axis: int, order: int, order_z: int
) -> np.ndarray:
    """Every slice across `axis` on its own, then all axes through one set of coordinates."""
    plane = [length for other, length in enumerate(shape) if other != axis]
    slices = [resize(part, plane, order) for part in np.moveaxis(channel, axis, 0)]
    resized = np.stack(slices, axis)
    if resized.shape[axis] == shape[axis]:
        return resized
    scales = np.reshape(np.divide(resized.shape, shape), (3, 1, 1, 1))
    coordinates = scales * (np.indices(shape) + 0.5) - 0.5
    return ndimage.map_coordinates(resized, coordinates, order=order_z, mode="nearest")


def assert_same(found: np.ndarray, expected: np.ndarray, source: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    span = np.ptp(source) or 1
    assert np.abs(found - expected).max() <= 1e-6 * span


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [
        ((7, 8, 9), (13, 17, 20)),
        ((16, 15, 14), (9, 7, 5)),
        ((9, 16, 25), (18, 11, 25)),
        ((1, 12, 11), (1, 20, 23)),
        ((1, 12, 11), (4, 6, 5)),
        ((5, 6, 7), (1, 1, 1)),
        ((2, 2, 2), (31, 3, 5)),
        ((40, 3, 3), (41, 3, 3)),
    ],
)
def test_all_axes_together(shape: Triple, new_shape: Triple, order: int) -> None:
    image = noise(2, *shape)
    found = resample(image, new_shape, resampling=Resampling(order), **TOGETHER)
    expected = np.stack([resize(channel, new_shape, order) for channel in image])
    assert_same(found, expected, image)


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    new_shape=st.tuples(*[st.integers(1, 18)] * 3),
    axis=st.integers(0, 2),
    order=st.integers(0, 3),
    order_z=st.integers(0, 3),
)
def test_one_axis_separately(
    shape: Triple, new_shape: Triple, axis: int, order: int, order_z: int
) -> None:
    image = noise(1, *shape)
    spacing_mm = tuple(6.0 if other == axis else 1.0 for other in range(3))
    found = resample(
        image,
        new_shape,
        spacing_mm=spacing_mm,
        new_spacing_mm=ISOTROPIC,
        resampling=Resampling(order, order_z),
    )
    if shape == new_shape:
        assert found is image
        return
    expected = resize_separately(image[0], new_shape, axis, order, order_z)[None]
    # A spline of the third order along the axis may leave the range of the image.
    assert_same(found, expected, image if np.ptp(image) else image * 0 + np.abs(image).max())


def test_results_stay_in_the_range_of_what_was_resized_together() -> None:
    image = np.zeros((1, 2, 16, 16), np.float32)
    image[0, 0, 4:12, 4:12] = 1
    image[0, 1, 4:12, 4:12] = 10
    spacing_mm, forced = (6.0, 1.0, 1.0), Resampling(separate_z=True)
    options = {"spacing_mm": spacing_mm, "new_spacing_mm": ISOTROPIC}
    separate = resample(image, (2, 31, 31), resampling=forced, **options)
    together = resample(image, (2, 31, 31), resampling=Resampling(separate_z=False), **options)
    assert separate[0, 0].max() == 1
    assert together[0, 0].max() > 1
    assert together.min() == separate.min() == 0


def test_halfway_between_two_slices_the_upper_one_is_taken() -> None:
    weights = axis_weights(4, 2, 0)
    assert weights.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("length", "new_length"), [*itertools.product([1, 2, 5, 26], [1, 3, 26, 87])]
)
def test_nearest_weights_are_those_of_map_coordinates(length: int, new_length: int) -> None:
    coordinates = length / new_length * (np.arange(new_length) + 0.5) - 0.5
    ramp = np.arange(length, dtype=float)
    expected = ndimage.map_coordinates(ramp, [coordinates], order=0, mode="nearest")
    assert np.array_equal(axis_weights(length, new_length, 0) @ ramp, expected)


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(("length", "new_length"), [(1, 5), (2, 7), (9, 14), (40, 17), (90, 91)])
def test_weights_are_resized_impulses(length: int, new_length: int, order: int) -> None:
    """Compare to float64's resolution, of which SciPy's recursive filter loses some."""
    zoom = new_length / length
    impulses = [
        ndimage.zoom(impulse, zoom, order=order, mode="nearest", grid_mode=True)
        for impulse in np.eye(length)
    ]
    expected = np.stack(impulses, axis=1)
    np.testing.assert_allclose(axis_weights(length, new_length, order), expected, atol=2e-12)


@pytest.mark.parametrize("order", range(6))
def test_weights_of_a_row_sum_to_one(order: int) -> None:
    sums = axis_weights(50, 37, order).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-10)


def test_weights_of_long_axes_are_sparse() -> None:
    assert np.count_nonzero(axis_weights(400, 500, 1)) <= 2 * 500
    assert np.count_nonzero(axis_weights(400, 500, 3)) <= 50 * 500


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    new_shape=st.tuples(*[st.integers(1, 30)] * 3),
    coarse=st.sampled_from([None, 0, 1, 2]),
    order=st.sampled_from([0, 1, 3]),
    order_z=st.integers(0, 1),
    threads=st.integers(1, 3),
)
def test_threads_change_nothing(
    shape: Triple, new_shape: Triple, coarse: int | None, order: int, order_z: int, threads: int
) -> None:
    image = noise(1, *shape)
    options = {
        "spacing_mm": tuple(5.0 if axis == coarse else 1.0 for axis in range(3)),
        "new_spacing_mm": ISOTROPIC,
        "resampling": Resampling(order, order_z),
    }
    whole = resample(image, new_shape, **options)
    assert np.array_equal(resample(image, new_shape, threads=threads, **options), whole)


@pytest.mark.parametrize("axis", range(3))
def test_planes_that_are_resized_one_after_the_other(axis: int) -> None:
    """Test an axis so large that only a few planes are kept, whose places are reused in turn."""
    shape, new_shape = [1500, 1500], [1500, 1450]
    shape.insert(axis, 5)
    new_shape.insert(axis, 6)
    image = noise(1, *shape)
    found = resample(image, tuple(new_shape), resampling=Resampling(1), **TOGETHER)
    expected = image[0].astype(float)
    for along, length in enumerate(new_shape):
        if length != shape[along]:
            weights = axis_weights(shape[along], length, 1)
            expected = np.moveaxis(np.tensordot(weights, expected, (1, along)), 0, along)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_an_unchanged_shape_returns_the_image_itself() -> None:
    image = noise(2, 4, 5, 6)
    assert resample(image, (4, 5, 6), resampling=Resampling(), **TOGETHER) is image


@pytest.mark.parametrize("order", [-1, 6])
def test_unknown_spline_orders_are_refused(order: int) -> None:
    with pytest.raises(ValueError, match=f"order is {order}; expected 0 to 5"):
        resample(noise(1, 4, 4, 4), (5, 4, 4), resampling=Resampling(order), **TOGETHER)


@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [((4, 4, 4), (5, 5, 5)), ((1, 4, 0, 4), (5, 5, 5)), ((1, 4, 4, 4), (5, 0, 5))],
)
def test_impossible_shapes_are_refused(shape: tuple[int, ...], new_shape: Triple) -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        resample(np.zeros(shape, np.float32), new_shape, resampling=Resampling(), **TOGETHER)


@pytest.mark.parametrize(
    ("spacing_mm", "new_spacing_mm", "separate_z", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), None, 0),
        ((1.0, 1.0, 5.0), (1.0, 1.0, 1.0), None, 2),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None, None),
        ((3.1, 1.0, 1.0), (1.0, 1.0, 1.0), None, 0),
        ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), None, 1),
        ((4.0, 1.0, 1.0), (1.0, 5.0, 1.0), None, 0),
        ((5.0, 5.0, 1.0), (1.0, 1.0, 1.0), None, None),
        ((5.0, 5.0000001, 1.0), (1.0, 1.0, 1.0), None, None),
        ((5.0, 5.0, 1.0), (1.0, 5.0, 1.0), None, None),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 1.0), True, 0),
        ((1.0, 1.0, 1.0), (5.0, 1.0, 1.0), True, None),
        ((2.0, 2.0, 1.0), (1.0, 1.0, 1.0), True, None),
        ((9.0, 1.0, 1.0), (1.0, 1.0, 1.0), False, None),
    ],
)
def test_which_axis_is_separate(
    spacing_mm: Spacing, new_spacing_mm: Spacing, separate_z: bool | None, axis: int | None
) -> None:
    assert separate_axis(spacing_mm, new_spacing_mm, Resampling(separate_z=separate_z)) == axis


def test_the_threshold_of_anisotropy_is_an_option() -> None:
    assert separate_axis((3.0, 1.0, 1.0), ISOTROPIC, Resampling(anisotropy_threshold=2.0)) == 0


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "new_spacing_mm", "expected"),
    [
        ((26, 166, 164), (5.0, 0.795, 0.795), (1.5, 1.0, 1.0), (87, 132, 130)),
        ((5, 7, 9), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (2, 4, 4)),
        ((10, 10, 10), ISOTROPIC, ISOTROPIC, (10, 10, 10)),
        ((1, 8, 8), (0.3, 1.0, 1.0), (1.0, 1.0, 1.0), (1, 8, 8)),
    ],
)
def test_target_shape_rounds_half_to_even(
    shape: Triple, spacing_mm: Spacing, new_spacing_mm: Spacing, expected: Triple
) -> None:
    assert target_shape(shape, spacing_mm, new_spacing_mm) == expected


@pytest.mark.parametrize("new_spacing_mm", [(1.5, 1.0, 1.0), (7.0, 0.6, 0.7)])
def test_a_real_anisotropic_scan(data_dir: Path, new_spacing_mm: Spacing) -> None:
    scan = nibabel.load(data_dir / "msd_spleen_crop" / "sub-spleen2_ct.nii.gz")
    image = scan.get_fdata(dtype=np.float32).transpose(2, 1, 0)[None]
    spacing_mm = (5.0, 0.794922, 0.794922)
    shape = target_shape(image.shape[1:], spacing_mm, new_spacing_mm)
    found = resample(
        image, shape, spacing_mm=spacing_mm, new_spacing_mm=new_spacing_mm, resampling=Resampling()
    )
    assert_same(found, resize_separately(image[0], shape, 0, 3, 0)[None], image)


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    new_shape=st.tuples(*[st.integers(1, 40)] * 3),
    axis=st.none() | st.integers(0, 2),
)
def test_the_method_torch_is_that_of_pytorch(
    shape: Triple, new_shape: Triple, axis: int | None
) -> None:
    torch = pytest.importorskip("torch")
    image = noise(2, *shape)
    spacing: Spacing = tuple(5.0 if each == axis else 1.0 for each in range(3))  # type: ignore[assignment]
    method = Resampling(1, 0, None, 3.0, "torch")
    found = resample(
        image, new_shape, spacing_mm=spacing, new_spacing_mm=ISOTROPIC, resampling=method
    )
    planes = (
        new_shape
        if axis is None
        else tuple(shape[each] if each == axis else new_shape[each] for each in range(3))
    )
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], planes, mode="trilinear", align_corners=False
    )
    if axis is not None:
        expected = torch.nn.functional.interpolate(expected, new_shape, mode="nearest-exact")
    assert_same(found, expected[0].numpy(), image)


@pytest.mark.parametrize(("length", "new_length"), [(37, 301), (301, 37), (512, 340), (3, 999)])
def test_the_nearest_voxel_of_the_method_torch(length: int, new_length: int) -> None:
    torch = pytest.importorskip("torch")
    places = np.arange(length, dtype=np.float32).reshape(1, length, 1, 1)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(places)[None], (new_length, 1, 1), mode="nearest-exact"
    )
    method = Resampling(1, 0, True, 3.0, "torch")
    found = resample(
        places,
        (new_length, 1, 1),
        spacing_mm=(5.0, 1.0, 1.0),
        new_spacing_mm=ISOTROPIC,
        resampling=method,
    )
    np.testing.assert_array_equal(found[0], expected[0, 0].numpy())
