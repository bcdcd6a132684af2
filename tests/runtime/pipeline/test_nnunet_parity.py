"""The runtime against arrays recorded from nnU-Net v2, see tests/data/README.md.

Positions, boxes, masks and labels are equal. Intensities and logits are compared with a
tolerance of a few float32 roundings, each stated where it is used: nnU-Net computes
z-scores in float32, this runtime in float64, and both end in float32.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from support.graphs.untraced import untraced
from support.native.native_kernels import cropped, fill_holes
from support.native.single_functions import tile_weights
from support.networks.networks import TINY_CONFIG, save_tiny_checkpoint
from support.networks.tile_logits import predict_logits
from support.scans import parity_cases as cases
from support.scans import parity_scans as scans

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.pipeline.normalization import normalize
from segmaformer.runtime.pipeline.preprocessing import preprocess
from segmaformer.runtime.pipeline.resampling import resample, target_shape
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_starts
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Normalization, Preprocessing, Resampling, Tiling

FLOAT32_STEP = 2.0**-23


@cache
def recorded(topic: str) -> dict[str, np.ndarray]:
    with np.load(cases.DATA / "nnunet" / f"{topic}.npz") as archive:
        return dict(archive)


def keys(topic: str, prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in recorded(topic) if key.startswith(prefix)]


def bounds(box: tuple[slice, ...]) -> list[list[int]]:
    return [[side.start, side.stop] for side in box]


def assert_close(found: np.ndarray, expected: np.ndarray, *, steps: float, scale: float) -> None:
    """Check equality up to `steps` roundings of float32 numbers as large as `scale`."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).max() <= steps * FLOAT32_STEP * scale


@pytest.mark.parametrize("name", cases.cropping_images())
def test_cropping(name: str) -> None:
    image = cases.cropping_images()[name]
    box = cropped(image, Normalization("none")).box
    mask = (image[(slice(None), *box)] != 0).any(axis=0)
    fill_holes(mask)
    assert bounds(box) == recorded("cropping")[f"{name}/box"].tolist()
    assert np.array_equal(mask, recorded("cropping")[f"{name}/mask"])


@pytest.mark.parametrize("key", recorded("normalization"))
def test_normalization(key: str) -> None:
    """Up to nnU-Net's own rounding of means and deviations of many float32 numbers."""
    scheme, name, masked = key.split("/")
    channel, mask = cases.normalization_channels()[name]
    lower, upper = (cases.CT_PROPERTIES[f"percentile_{p}"] for p in ("00_5", "99_5"))
    normalization = Normalization(
        cases.NORMALIZATIONS[scheme],
        use_mask=masked == "masked",
        mean=cases.CT_PROPERTIES["mean"],
        std=cases.CT_PROPERTIES["std"],
        lower=lower,
        upper=upper,
    )
    found, expected = normalize(channel, normalization, mask), recorded("normalization")[key]
    if scheme != "ZScoreNormalization":
        assert np.array_equal(found, expected)
        return
    # A float32 mean is off by a few steps of the intensities, here divided by the deviation.
    inside = channel[mask] if masked == "masked" else channel
    scale = np.abs(inside).max() / max(inside.std(), 1)
    assert_close(found, expected, steps=4, scale=max(scale, np.abs(expected).max()))


@pytest.mark.parametrize("name", cases.RESAMPLING_CASES)
def test_resampling(name: str) -> None:
    """Both compute in float64; the sums differ in order, so the last float32 bit may."""
    case = cases.RESAMPLING_CASES[name]
    image = case.image()
    found = resample(
        image,
        case.new_shape,
        spacing_mm=case.spacing,
        new_spacing_mm=case.new_spacing,
        resampling=Resampling(case.order, case.order_z, case.separate_z, case.threshold),
    )
    assert_close(found, recorded("resampling")[name], steps=1, scale=np.abs(image).max())


def test_shapes_at_another_spacing() -> None:
    found = [target_shape(*case) for case in cases.shape_cases()]
    # nnU-Net lets an axis vanish; here one voxel is left.
    expected = recorded("resampling")["shapes"].clip(1)
    assert np.array_equal(found, expected)


def test_positions_of_tiles() -> None:
    tiling = recorded("tiling")
    expected = np.split(tiling["starts"], np.cumsum(tiling["counts"])[:-1])
    for case, starts in zip(cases.step_cases(), expected, strict=True):
        _, tile, _ = case
        # nnU-Net runs tiles of one voxel more than once, at the same place.
        once = starts.tolist() if tile > 1 else sorted(set(starts.tolist()))
        assert tile_starts(*case) == once, case


@pytest.mark.parametrize("name", cases.WEIGHT_TILES)
def test_gaussian_weights(name: str) -> None:
    found = tile_weights(Tiling(cases.WEIGHT_TILES[name]))
    half, single = (recorded("tiling")[f"weights/{name}/float{bits}"] for bits in (16, 32))
    assert np.array_equal(found, half)
    # Half precision has 11 bits, down to its smallest normal number.
    normal = single > np.finfo(np.float16).tiny
    np.testing.assert_allclose(found[normal], single[normal], rtol=2.0**-11)


@pytest.mark.parametrize("name", cases.BLENDING_SHAPES)
def test_padding_to_a_tile(name: str) -> None:
    image = cases.blending_image(cases.BLENDING_SHAPES[name])
    padded, inner = pad_to_tile(image, cases.BLENDING_TILE)
    assert np.array_equal(padded, recorded("tiling")[f"padded/{name}"])
    assert bounds(inner) == recorded("tiling")[f"inner/{name}"].tolist()


@pytest.mark.parametrize("key", keys("tiling", "logits/"))
def test_blended_logits(key: str) -> None:
    """The same products in the same order: only the division may round differently."""
    name, step, weights = key.split("/")
    image = cases.blending_image(cases.BLENDING_SHAPES[name])
    tiling = Tiling(cases.BLENDING_TILE, step=float(step), gaussian=weights == "gaussian")
    found = predict_logits(image, tiling, TileNetwork(cases.ramp_network), cases.BLENDING_CHANNELS)
    expected = recorded("tiling")[f"logits/{key}"]
    assert_close(found, expected, steps=1, scale=np.abs(expected).max())


@pytest.mark.parametrize("key", keys("tiling", "mirrored/"))
def test_mirroring(key: str) -> None:
    tile = cases.blending_image(cases.BLENDING_TILE)
    axes = tuple(int(axis) for axis in key.split("-"))
    network = TileNetwork(cases.ramp_network, mirrored_axes=axes)
    tiling = Tiling(cases.BLENDING_TILE, gaussian=False)
    found = predict_logits(tile, tiling, network, cases.BLENDING_CHANNELS)
    assert np.array_equal(found[None], recorded("tiling")[f"mirrored/{key}"])


@pytest.mark.parametrize("name", cases.LABEL_DATASETS)
def test_labels_of_logits(name: str) -> None:
    pytest.importorskip("torch", reason="checkpoints are read with it")
    from segmaformer.checkpoint.training.labels import output_of

    found = logits_to_labels(cases.label_logits(), output_of(cases.LABEL_DATASETS[name]))
    assert np.array_equal(found, recorded("labelling")[name])


def volume(case: scans.ScanCase) -> Volume:
    """Scan in the order in which a NIfTI file in RAS orientation stores it."""
    affine = np.diag([*reversed(case.spacing), 1.0])
    return Volume(case.scan().transpose(0, 3, 2, 1), affine)


def planned_preprocessing(case: scans.ScanCase) -> Preprocessing:
    pytest.importorskip("torch", reason="checkpoints are read with it")
    from segmaformer.checkpoint.training.plans import preprocessing_of, resolve_configuration
    from segmaformer.checkpoint.training.readers import training_reader

    _, configuration = resolve_configuration(case.plans, None)
    channels = tuple(f"channel {number}" for number in range(case.channels))
    return preprocessing_of(case.plans, configuration, channels, training_reader(case.plans))


@pytest.mark.parametrize("name", scans.PREPROCESSING_CASES)
def test_preprocessing(name: str) -> None:
    """Up to the rounding of z-scores, as for the normalisation alone."""
    case = scans.PREPROCESSING_CASES[name]
    found = preprocess(volume(case), planned_preprocessing(case))
    assert bounds(found.box) == recorded("preprocessing")[f"{name}/box"].tolist()
    expected = recorded("preprocessing")[f"{name}/image"]
    assert_close(found.image, expected, steps=4, scale=np.abs(expected).max())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Write the network that the predictions were recorded with as a package."""
    torch = pytest.importorskip("torch")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.pipeline import export_package

    folder = tmp_path_factory.mktemp("parity")
    path = save_tiny_checkpoint(folder / "tiny.pth")
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "network_weights": scans.filled_network().state_dict()}, path)
    checkpoint = load_checkpoint(path, config={"num_heads": TINY_CONFIG["num_heads"]})
    with untraced():
        return export_package(checkpoint, folder / "tiny.sgmf")


@pytest.mark.parametrize("name", scans.PREDICTION_CASES)
def test_whole_predictions(package: Package, name: str) -> None:
    """Label maps equal those of nnU-Net with float32 accumulators.

    nnU-Net itself accumulates logits in float16. That changes 123 of 76,608 voxels in
    "several tiles", 45 of 58,320 in "mirrored", none of 44,160 in "smaller than a tile", 2
    of 21,120 in "coarse slices, transposed" and 7 of 51,680 in "regions".
    """
    from segmaformer.checkpoint.training.labels import output_of

    case = scans.PREDICTION_CASES[name]
    manifest = dataclasses.replace(
        package.manifest,
        preprocessing=planned_preprocessing(case.case),
        tiling=dataclasses.replace(package.manifest.tiling, mirror_axes=case.mirror_axes),
        output=output_of(case.dataset),
    )
    predictor = Predictor(dataclasses.replace(package, manifest=manifest), tta=True)
    labels = predictor.predict(volume(case.case)).labels.transpose(2, 1, 0)
    assert np.array_equal(labels, recorded("prediction")[f"{name}/labels"])


def test_float16_accumulators_are_what_makes_nnunet_differ() -> None:
    """The figures of :func:`test_whole_predictions`."""
    arrays = recorded("prediction")
    changed = {
        name: np.count_nonzero(
            arrays[f"{name}/labels"] != arrays[f"{name}/labels from float16 accumulators"]
        )
        for name in scans.PREDICTION_CASES
    }
    assert changed == {
        "several tiles": 123,
        "mirrored": 45,
        "smaller than a tile": 0,
        "coarse slices, transposed": 2,
        "regions": 7,
    }
