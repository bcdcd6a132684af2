"""MONAI's order of preparation and its grids, against NumPy and, where it is there, MONAI."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks.tile_logits import predict_logits

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.preprocessing import network_grid, preprocess
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import (
    Label,
    Normalization,
    Output,
    Preprocessing,
    Region,
    Resampling,
    Tiling,
)

GRID = Resampling(order=1, order_z=1, separate_z=False, alignment="first_voxels")
XYZ = (2, 1, 0)


def spec(normalization: Normalization = Normalization("none"), **options) -> Preprocessing:  # noqa: B008
    chosen = {
        "orientation": "RAS",
        "transpose_forward": XYZ,
        "crop_to_nonzero": False,
        "resampling": GRID,
        "logits_resampling": GRID,
        "resample_first": True,
        **options,
    }
    return Preprocessing(("image",), (normalization,), **chosen)


def between(voxels: np.ndarray, axis: int, count: int, step: float) -> np.ndarray:
    """Interpolate linearly at multiples of `step`, the last voxel beyond."""
    length = voxels.shape[axis]
    places = np.minimum(np.arange(count) * step, length - 1)
    low = np.minimum(places.astype(int), length - 1)
    high = np.minimum(low + 1, length - 1)
    shape = [1] * voxels.ndim
    shape[axis] = count
    weight = (places - low).reshape(shape)
    return voxels.take(low, axis) * (1 - weight) + voxels.take(high, axis) * weight


@settings(max_examples=30)
@given(
    shape=st.tuples(*[st.integers(2, 12)] * 3),
    edges=st.tuples(*[st.sampled_from([0.8, 1.0, 2.0, 5.0])] * 3),
    wanted=st.tuples(*[st.sampled_from([0.7, 1.0, 1.5, 2.0])] * 3),
)
def test_voxels_lie_exactly_as_far_apart_as_stated(shape, edges, wanted):  # type: ignore[no-untyped-def]
    voxels = np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)
    prepared = preprocess(Volume(voxels, np.diag([*edges, 1.0])), spec(spacing=wanted))
    expected = voxels.astype(np.float64)
    for axis in range(3):
        count = int(np.round((shape[axis] - 1) * edges[axis] / wanted[axis] + 1))
        expected = between(expected, axis + 1, count, wanted[axis] / edges[axis])
    assert prepared.spacing_mm == wanted
    np.testing.assert_allclose(prepared.image, expected, atol=1e-6)


@settings(max_examples=100)
@given(
    shape=st.tuples(*[st.integers(3, 300)] * 3),
    edges=st.tuples(*[st.sampled_from([0.5, 0.8, 0.9375, 1.0, 1.5005, 2.5, 5.0])] * 3),
    signs=st.tuples(*[st.sampled_from([1, -1])] * 3),
    order=st.permutations([0, 1, 2]),
    origin=st.tuples(*[st.floats(-300, 300, width=32)] * 3),
    wanted=st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.0])] * 3),
)
def test_shapes_are_those_of_monai(shape, edges, signs, order, origin, wanted):  # type: ignore[no-untyped-def]
    """Sizes that end on half a voxel are among them, where rounding decides."""
    monai = pytest.importorskip("monai.transforms")
    torch = pytest.importorskip("torch")
    meta = pytest.importorskip("monai.data").MetaTensor
    affine = np.eye(4)
    affine[:3, :3] = np.diag([*edges] * np.array(signs))[:, order]
    affine[:3, 3] = origin
    image = meta(torch.zeros(()).expand(1, *shape), affine=torch.tensor(affine))
    oriented = monai.Orientation("RAS", lazy=True)(image)
    expected = monai.Spacing(wanted, lazy=True)(oriented).peek_pending_shape()
    voxels = np.broadcast_to(np.float32(0), (1, *shape))
    found = network_grid(Volume(voxels, affine), spec(spacing=wanted), whole=True)
    assert found.image.shape[1:] == tuple(map(int, expected))


def test_a_spacing_that_is_nearly_there_is_kept() -> None:
    voxels = np.random.default_rng(0).random((1, 6, 5, 4), np.float32)
    volume = Volume(voxels, np.diag([1.5005, 1.4995, 2.0, 1]))
    prepared = preprocess(volume, spec(spacing=(1.5, 1.5, 2.001)))
    assert np.array_equal(prepared.image, voxels)
    assert prepared.spacing_mm == prepared.scan_spacing_mm


def test_sheared_axes_are_refused() -> None:
    affine = np.eye(4)
    affine[0, 2] = 0.3
    volume = Volume(np.ones((1, 9, 9, 9), np.float32), affine)
    with pytest.raises(GeometryError, match="not perpendicular"):
        preprocess(volume, spec(spacing=(2.0, 2.0, 2.0)))


@pytest.mark.parametrize(("lean", "first"), [(1e-6, 0.0), (-1e-6, -0.5)])
def test_rounding_of_a_header_decides_what_coincides(lean: float, first: float) -> None:
    affine = np.eye(4)
    affine[0, 2] = lean
    voxels = np.zeros((1, 9, 9, 9), np.float32)
    voxels[0] = np.arange(9)[:, None, None]
    found = preprocess(Volume(voxels, affine), spec(spacing=(2.0, 2.0, 2.0)))
    assert found.centred == (lean < 0)
    expected = np.maximum(0, first + 2 * np.arange(5))
    np.testing.assert_allclose(found.image[0, :, 0, 0], expected, atol=1e-5)


def rotation(*degrees: float) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        others = [other for other in range(3) if other != axis]
        one = np.eye(3)
        one[np.ix_(others, others)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        turned = turned @ one
    return turned


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(6, 24)] * 3),
    edges=st.tuples(*[st.sampled_from([0.8, 1.0, 2.1, 5.0])] * 3),
    degrees=st.tuples(*[st.floats(-40, 40)] * 3),
    order=st.permutations([0, 1, 2]),
    wanted=st.tuples(*[st.sampled_from([0.7, 1.0, 1.5, 2.0])] * 3),
    single=st.booleans(),
    codes=st.sampled_from(["RAS", "LPI", "SRA"]),
)
def test_oblique_scans_lie_on_the_grid_of_monai(
    shape, edges, degrees, order, wanted, single, codes
):  # type: ignore[no-untyped-def]
    """A header in float32 makes the axes lean by rounding, which moves MONAI's grid."""
    transforms = pytest.importorskip("monai.transforms")
    torch = pytest.importorskip("torch")
    meta = pytest.importorskip("monai.data").MetaTensor
    affine = np.eye(4)
    affine[:3, :3] = (rotation(*degrees) * edges)[:, order]
    affine[:3, 3] = 20, -3, 7
    if single:
        affine = affine.astype(np.float32).astype(np.float64)
    voxels = np.random.default_rng(0).random((1, *shape), np.float32)
    chain = transforms.Compose([transforms.Orientation(codes), transforms.Spacing(wanted)])
    image = chain(meta(torch.tensor(voxels), affine=torch.tensor(affine)))
    try:
        found = preprocess(Volume(voxels, affine), spec(spacing=wanted, orientation=codes))
    except GeometryError as error:
        assert "exactly half a voxel" in str(error)  # noqa: PT017 -- at few spacings alone
        return
    assert found.image.shape == tuple(image.shape)
    np.testing.assert_allclose(found.image, image.numpy(), atol=1e-4)
    back = chain.inverse(image).numpy()[0]
    grid = LogitsGrid(
        found.cropped_shape, found.scan_spacing_mm, found.spacing_mm, found.resampling(GRID)
    )
    assert_way_back(found.image, grid, found.reorientation.apply(back))


def assert_way_back(image: np.ndarray, grid: LogitsGrid, expected: np.ndarray) -> None:
    """Compare logits 0 and image - 0.5, whose labels tell where the image exceeds a half."""

    def run(tiles: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(tiles), tiles - 0.5], axis=1)

    labels = LabelStream(
        image, Tiling((8, 8, 8), scheme="monai"), Output((Label(0, "0"), Label(1, "1"))), grid,
        TileNetwork(run), budget=MemoryBudget(1 << 40), threads=1,
    ).labels(lambda done, count: None)  # fmt: skip
    clear = np.abs(expected - 0.5) > 1e-4
    assert np.array_equal(labels[clear], (expected > 0.5)[clear])


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 24)] * 3),
    target=st.tuples(*[st.integers(1, 24)] * 3),
    mode=st.sampled_from(
        [("area", None), ("nearest", None), ("nearest-exact", None), ("trilinear", None),
         ("trilinear", False), ("trilinear", True)]
    ),
)  # fmt: skip
def test_sizes_are_those_of_monai(shape, target, mode):  # type: ignore[no-untyped-def]
    transforms = pytest.importorskip("monai.transforms")
    torch = pytest.importorskip("torch")
    name, corners = mode
    linear = int(name == "trilinear")
    method = {"area": "area", "nearest": "floor"}.get(name, "torch")
    resampling = Resampling(
        linear, linear, separate_z=False, method=method,
        alignment="end_voxels" if corners else "borders",
    )  # fmt: skip
    voxels = np.random.default_rng(0).random((1, *shape), np.float32)
    chain = transforms.Compose([transforms.Resize(target, mode=name, align_corners=corners)])
    image = chain(torch.tensor(voxels))
    found = preprocess(
        Volume(voxels, np.eye(4)),
        spec(shape=target, resampling=resampling, logits_resampling=resampling),
    )
    np.testing.assert_allclose(found.image, image.numpy(), atol=1e-6)
    grid = LogitsGrid(shape, found.scan_spacing_mm, found.spacing_mm, resampling)
    assert_way_back(found.image, grid, chain.inverse(image).numpy()[0])


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (
            Normalization("clip", mean=-57, std=221, lower=-57, upper=164),
            lambda x: np.clip((x + 57) / 221, 0, 1),
        ),
        (Normalization("zscore"), lambda x: (x - x.mean()) / x.std()),
        (
            Normalization("zscore_nonzero"),
            lambda x: np.where(x != 0, (x - x[x != 0].mean()) / x[x != 0].std(), 0),
        ),
        (Normalization("rescale01"), lambda x: (x - x.min()) / (x.max() - x.min())),
    ],
)
def test_intensities_are_scaled_after_resampling(scaling, expected):  # type: ignore[no-untyped-def]
    voxels = (100 * np.random.default_rng(2).standard_normal((1, 8, 7, 6))).astype(np.float32)
    voxels[0, :4] = 0
    volume = Volume(voxels, np.eye(4))
    plain = preprocess(volume, spec(spacing=(2.0, 1.5, 0.7)))
    scaled = preprocess(volume, spec(scaling, spacing=(2.0, 1.5, 0.7)))
    np.testing.assert_allclose(scaled.image, expected(plain.image.astype(np.float64)), atol=1e-5)
    before = preprocess(volume, spec(scaling, resample_first=False))
    np.testing.assert_allclose(before.image, expected(voxels.astype(np.float64)), atol=1e-5)


def test_cropping_to_what_is_above_an_intensity() -> None:
    voxels = np.full((1, 6, 7, 8), -5, np.float32)
    voxels[0, 1:4, 2:6, 3:5] = 1
    voxels[0, 2, 3, 4] = -4
    volume = Volume(voxels, np.eye(4))
    prepared = preprocess(volume, spec(crop_above=-4))
    assert prepared.box == (slice(1, 4), slice(2, 6), slice(3, 5))
    with pytest.raises(InputError, match="background"):
        preprocess(volume, spec(crop_above=1))


@settings(max_examples=30)
@given(
    shape=st.tuples(*[st.integers(2, 12)] * 3),
    target=st.tuples(*[st.integers(2, 16)] * 3),
    step=st.tuples(*[st.sampled_from([0.4, 0.75, 1.0, 1.3])] * 3),
    channels=st.integers(1, 4),
    regions=st.booleans(),
    order=st.integers(0, 1),
    probabilities=st.booleans(),
    seed=st.integers(0, 100),
)
def test_what_is_interpolated_back(
    shape, target, step, channels, regions, order, probabilities, seed
):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    image = random.standard_normal((1, *shape)).astype(np.float32)
    mix = 4 * random.standard_normal((channels, 1, 1, 1, 1)).astype(np.float32)

    def run(tiles: np.ndarray) -> np.ndarray:
        return np.stack([(mix * np.sin(3 * tile))[:, 0] for tile in tiles])

    labels = tuple(Label(value, str(value)) for value in range(channels + 1))
    painted = tuple(Region(str(i), (i + 1,), i + 1) for i in range(channels)) if regions else ()
    meaning = Output(labels if regions else labels[:channels], painted)
    if probabilities:
        meaning = dataclasses.replace(meaning, interpolated="probabilities")
    tiling = Tiling((4, 5, 3), scheme="monai")
    resampling = dataclasses.replace(GRID, order=order)
    stream = LabelStream(
        image, tiling, meaning, LogitsGrid(target, step, (1.0,) * 3, resampling),
        TileNetwork(run), budget=MemoryBudget(1 << 40), threads=2,
    )  # fmt: skip
    values = predict_logits(image, tiling, TileNetwork(run), channels).astype(np.float64)
    if probabilities and regions:
        values = 1 / (1 + np.exp(-values))
    elif probabilities:
        values = np.exp(values) / np.exp(values).sum(0)
    for axis in range(3):
        if order:
            values = between(values, axis + 1, target[axis], step[axis])
        else:
            places = np.minimum(np.arange(target[axis]) * step[axis], shape[axis] - 1)
            values = values.take(np.rint(places).astype(int), axis + 1)
    least = 0.5 if probabilities else 0.0
    found = stream.labels(lambda done, count: None)
    if regions:
        expected = np.zeros(target, int)
        for channel in range(channels):
            expected[values[channel] > least] = channel + 1
        ties = (np.abs(values - least) < 1e-4).any(0)
    else:
        expected = values.argmax(0)
        ranked = np.sort(values, axis=0)
        ties = np.zeros(target, bool) if channels < 2 else ranked[-1] - ranked[-2] < 1e-4
    assert np.array_equal(found[~ties], expected[~ties])
    if probabilities:
        maps = stream.probabilities([*range(channels)], lambda done, count: None)
        np.testing.assert_allclose(maps, values, atol=1e-5)
