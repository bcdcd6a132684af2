"""Early refusal of scans that do not fit into memory, alike in infer and check."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from support.packages.samples import head_like, write_scan
from support.packages.small_packages import write_package
from support.scans.scan_files import peak_memory

from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.checks.scan import check_scan
from segmaformer.runtime.errors import BudgetError, InputError
from segmaformer.runtime.package.manifest import MOST_TILE_VOXELS
from segmaformer.runtime.parity.tiles import phantom_tiles, tiles_from_scan
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling
from segmaformer.runtime.system.memory import MIB, MOST_BUDGET_MIB, available_bytes, budget_bytes

BUDGET_MIB = 64
OUTPUT = Output((Label(0, "background"), Label(1, "organ")))


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Predictor]:
    """Make predictors by whether the package crops to the nonzero box."""
    folder = tmp_path_factory.mktemp("packages")
    found = {}
    for crop in (True, False):
        spec = Preprocessing(
            ("T1",), (Normalization("zscore"),), spacing=(1.0, 1.0, 1.0), crop_to_nonzero=crop
        )
        package = Package.open(write_package(folder / f"{crop}.sgmf", spec, OUTPUT))
        found[crop] = Predictor(
            package,
            "onnxruntime",
            memory_budget_mib=BUDGET_MIB,
            options=BackendOptions(threads=1),
        )
    return found


def scan_of(path: Path, spacing_mm: float, border: int = 0) -> Path:
    voxels = np.pad(head_like((20, 24, 22)) + np.float32(1), border)
    return write_scan(path, voxels, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))


def sparse_scan(path: Path, shape: tuple[int, int, int], spacing_mm: float = 1.0) -> Path:
    """Write a file of that size that occupies a few blocks of the disk."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header.set_sform(np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]), 1)
    header["magic"], header["vox_offset"] = b"n+1\0", 352
    with path.open("wb") as stream:
        stream.write(header.binaryblock)
        stream.truncate(352 + 4 * int(np.prod(shape, dtype=np.int64)))
    return path


@pytest.mark.parametrize("crop", [True, False], ids=["cropping", "whole"])
@pytest.mark.parametrize(
    ("spacing_mm", "border", "admitted"),
    [
        (1.0, 0, {True, False}),
        (3.0, 0, {True, False}),
        (20.0, 0, set()),
        (100.0, 0, set()),
        (1000.0, 0, set()),
        (1e5, 0, set()),
        (3.0, 40, {True}),  # only what cropping leaves fits
        (1e5, 40, set()),
    ],
)
def test_predicting_and_checking_agree(
    predictors: dict[bool, Predictor],
    tmp_path: Path,
    crop: bool,
    spacing_mm: float,
    border: int,
    admitted: set[bool],
) -> None:
    path, predictor = scan_of(tmp_path / "scan.nii.gz", spacing_mm, border), predictors[crop]
    manifest = predictor.package.manifest
    with peak_memory() as peak:
        findings = check_scan(path, manifest, budget_bytes=BUDGET_MIB * MIB)
        refused = any(finding.level == "refuse" for finding in findings)
        assert refused == (crop not in admitted)
        for scan in (path, read_scan([path])):
            if refused:
                with pytest.raises(InputError) as refusal:
                    predictor.prepare(scan)
                assert str(refusal.value).split(" need")[0] == findings[0].what.split(" need")[0]
            else:
                predictor.prepare(scan)
    assert peak() < BUDGET_MIB * MIB


def test_a_budget_that_was_named_suffices(
    predictors: dict[bool, Predictor], tmp_path: Path
) -> None:
    path = scan_of(tmp_path / "scan.nii.gz", 13.0)
    package = predictors[True].package
    with pytest.raises(BudgetError) as refusal:
        predictors[True].prepare(path)
    least_mib = -(-refusal.value.least_bytes // MIB)
    for budget, fits in ((least_mib, True), (least_mib - 1, False)):
        findings = check_scan(path, package.manifest, budget_bytes=budget * MIB)
        assert all(finding.level != "refuse" for finding in findings) == fits


def test_nothing_is_read_of_what_cannot_fit(
    predictors: dict[bool, Predictor], tmp_path: Path
) -> None:
    path = sparse_scan(tmp_path / "scan.nii", (20_000, 20_000, 700))
    with peak_memory() as peak:
        for manifest in (None, *(each.package.manifest for each in predictors.values())):
            (finding,) = check_scan(path, manifest)
            assert finding.level == "refuse"
        for predictor in predictors.values():
            with pytest.raises(InputError):
                predictor.prepare(path)
        with pytest.raises(BudgetError):
            tiles_from_scan(
                [path], predictors[True].package.manifest.preprocessing, Tiling((8,) * 3)
            )
    assert peak() < MIB


def test_a_package_that_crops_nothing_decides_by_the_header(
    predictors: dict[bool, Predictor], tmp_path: Path
) -> None:
    """All voxels are zero, which reading would have told."""
    path = sparse_scan(tmp_path / "scan.nii", (200, 200, 200), spacing_mm=2.0)
    with pytest.raises(BudgetError):
        predictors[False].prepare(path)


def test_a_verifying_scan_is_held_as_a_whole_or_refused(tmp_path: Path) -> None:
    spec = Preprocessing(("T1",), (Normalization("zscore"),), spacing=(1.0, 1.0, 1.0))
    path = scan_of(tmp_path / "scan.nii.gz", 400.0)
    with peak_memory() as peak, pytest.raises(BudgetError, match="scan and image"):
        tiles_from_scan([path], spec, Tiling((16, 16, 16)))
    assert peak() < MIB


def test_a_phantom_that_memory_does_not_hold_is_refused() -> None:
    with peak_memory() as peak, pytest.raises(InputError, match="check the patch size"):
        phantom_tiles([Normalization("zscore")], (1290, 1290, 1290))
    assert peak() < MIB
    assert MOST_TILE_VOXELS > 1290**3


def test_a_volume_in_memory_is_measured_too(predictors: dict[bool, Predictor]) -> None:
    volume = Volume(head_like((20, 24, 22))[None] + np.float32(1), np.diag([90.0, 90, 90, 1]))
    with peak_memory() as peak, pytest.raises(InputError):
        predictors[True].predict(volume)
    assert peak() < MIB


@pytest.mark.parametrize("mib", [0, -1, MOST_BUDGET_MIB + 1, 2**63, 10**30])
def test_impossible_budgets_are_a_callers_mistake(mib: int) -> None:
    with pytest.raises(ValueError, match="memory budget"):
        budget_bytes(mib)
    assert budget_bytes(MOST_BUDGET_MIB) < 2**63
    assert 0 < budget_bytes(None) <= available_bytes()


@pytest.mark.parametrize("threads", [0, -1, 1025, 1_000_000])
def test_impossible_threads_are_a_callers_mistake(threads: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1024"):
        BackendOptions(threads=threads)
