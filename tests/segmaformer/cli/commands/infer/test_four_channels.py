"""A patient with four channels, from weights to labels by the commands, against PyTorch."""

from __future__ import annotations

from pathlib import Path

import nibabel
import nibabel.orientations as orientations
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segmaformer.cli import main
from segmaformer.models import create_model

CHANNELS = ("FLAIR", "T1", "T1POST", "T2")
PAINTED = ((1, 1), (0, 2), (2, 3))
"""Output of the file and the label it paints: whole tumor, tumor core, enhancing tumor."""
TILE, STEP = 64, 3
TIE = 1e-4


@pytest.fixture(scope="module")
def patient(data_dir: Path) -> list[nibabel.Nifti1Image]:
    """Read every third voxel, in RAS order."""
    folder = data_dir / "ms_4ch/patient19"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; it holds a patient with four channels")
    coarse = np.diag([STEP, STEP, STEP, 1.0])
    images = []
    for name in CHANNELS:
        image = nibabel.as_closest_canonical(nibabel.load(folder / f"{name}.nii.gz"))
        voxels = np.asarray(image.dataobj, np.float32)[::STEP, ::STEP, ::STEP]
        images.append(nibabel.Nifti1Image(voxels, image.affine @ coarse))
    return images


@pytest.fixture(scope="module")
def network(patient: list[nibabel.Nifti1Image]) -> torch.nn.Module:
    """Make a narrow SegFormer3D of BraTS's channels and outputs, each positive in half a scan."""
    torch.manual_seed(0)
    model = create_model(
        "segformer3d", preset="brats", embed_dims=[8, 16, 40, 64], decoder_head_embedding_dim=32
    ).eval()
    with torch.no_grad():
        logits, inside = logits_of(model, patient)
        bias = model.segformer_decoder.linear_pred.bias
        bias -= logits[:, inside].median(1).values
    return model


@pytest.fixture(scope="module")
def package(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    torch.save(network.state_dict(), folder / "weights.pt")
    tile = ",".join([str(TILE)] * 3)
    arguments = ["export", str(folder / "weights.pt"), "--patch-size", tile]
    run([*arguments, "-o", str(folder / "model.sgmf")])
    return folder / "model.sgmf"


def run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def logits_of(
    model: torch.nn.Module, images: list[nibabel.Nifti1Image]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the training's steps: each axial slice to 0..1, axes z, y, x, one window.

    Returns
    -------
    logits, inside
        Shapes (3, Z, Y, X), and (Z, Y, X): the voxels of the box that holds the patient.
    """
    volume = np.stack([np.asarray(image.dataobj).transpose() for image in images])
    places = np.argwhere((volume != 0).any(0))
    box = tuple(slice(a, b) for a, b in zip(places.min(0), places.max(0) + 1, strict=True))
    cut = volume[(slice(None), *box)]
    low, high = (extreme(cut, axis=(2, 3), keepdims=True) for extreme in (np.min, np.max))
    scaled = (cut - low) / np.where(high > low, high - low, 1)
    spare = [TILE - extent for extent in cut.shape[1:]]
    padding = [(n // 2, n - n // 2) for n in spare]
    with torch.inference_mode():
        padded = torch.from_numpy(np.pad(scaled, [(0, 0), *padding]))[None]
        found = model(padded)[0]
    window = tuple(slice(a, TILE - b) for a, b in padding)
    logits = torch.full((3, *volume.shape[1:]), -1.0)
    logits[(slice(None), *box)] = found[(slice(None), *window)]
    inside = torch.zeros(volume.shape[1:], dtype=torch.bool)
    inside[box] = True
    return logits, inside


def infer(package: Path, images: list[nibabel.Nifti1Image], folder: Path) -> nibabel.Nifti1Image:
    """Segment channels by the command, and return the labels in RAS order."""
    folder.mkdir()
    for index, image in enumerate(images):
        nibabel.save(image, folder / f"patient_{index:04d}.nii.gz")
    run(["infer", str(folder), "-m", str(package), "-o", str(folder / "labels")])
    (written,) = (folder / "labels").glob("*.nii.gz")
    stored = nibabel.load(written)
    assert nibabel.aff2axcodes(stored.affine) == nibabel.aff2axcodes(images[0].affine)
    return np.asarray(nibabel.as_closest_canonical(stored).dataobj)


@pytest.mark.parametrize("order", ["RAS", "LAS", "PIR"])
def test_labels_are_those_of_pytorch_in_any_order_of_axes(
    order: str,
    patient: list[nibabel.Nifti1Image],
    network: torch.nn.Module,
    package: Path,
    tmp_path: Path,
) -> None:
    logits, _ = logits_of(network, patient)
    expected = torch.zeros(logits.shape[1:], dtype=torch.uint8)
    for output, value in PAINTED:
        expected[logits[output] > 0] = value
    turn = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(order)
    )
    stored = [image.as_reoriented(turn) for image in patient]
    found = infer(package, stored, tmp_path / "scans").transpose()
    ties = (logits.abs() < TIE).any(0).numpy()
    assert set(np.unique(found)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found[~ties], expected.numpy()[~ties])


def test_the_order_of_channels_matters(
    patient: list[nibabel.Nifti1Image], package: Path, tmp_path: Path
) -> None:
    flair, t1, contrast, t2 = patient
    right = infer(package, patient, tmp_path / "right")
    wrong = infer(package, [t2, t1, contrast, flair], tmp_path / "wrong")
    assert (right != wrong).mean() > 0.001
