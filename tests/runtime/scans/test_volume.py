from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat
from nibabel.orientations import aff2axcodes, axcodes2ornt, io_orientation, ornt_transform
from nibabel.quaternions import mat2quat, quat2mat

from segmaformer.runtime.errors import GeometryError
from segmaformer.runtime.scans.volume import (
    Reorientation,
    Volume,
    check_affine,
    flip_world,
    orient_to,
)

CODES = [
    "".join(letters)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for letters in itertools.product(*axes)
]


def affine_of(codes: str, spacing: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> np.ndarray:
    """Make an affine whose array axes run towards `codes`, with an origin off the axes."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = next(i for i, pair in enumerate(["LR", "PA", "IS"]) if code in pair)
        affine[row, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    affine[:3, 3] = (-31, 17, 5)
    return affine


def volume_with(affine: np.ndarray, source: tuple[Path, ...] = ()) -> Volume:
    return Volume(np.ones((1, 3, 4, 5), np.float32), affine, source=source)


@pytest.mark.parametrize("codes", CODES)
def test_axis_codes_and_spacing_come_from_the_affine(codes: str) -> None:
    volume = volume_with(affine_of(codes))
    assert volume.axis_codes == codes
    assert volume.spacing_mm == (1.0, 2.0, 3.0)
    assert volume.shape == (3, 4, 5)


def test_float32_noise_of_an_oblique_header_does_not_reach_the_spacing() -> None:
    quaternion = mat2quat(euler2mat(0.31, -0.2, 0.14)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = (quat2mat(quaternion) @ np.diag([1.0, 1.0, 3.0])).astype(np.float32)
    assert np.linalg.norm(affine[:3, 2]) != 3.0
    assert volume_with(affine).spacing_mm == (1.0, 1.0, 3.0)


@pytest.mark.parametrize("stored", CODES)
@pytest.mark.parametrize("wanted", ["RAS", "LPS", "SAL"])
def test_reoriented_voxels_keep_their_place_in_space(stored: str, wanted: str) -> None:
    affine, voxels = affine_of(stored), np.arange(60).reshape(3, 4, 5)
    reorientation = orient_to(affine, wanted)
    turned = reorientation.apply(voxels)
    new_affine = reorientation.apply_to_affine(affine, voxels.shape)
    assert volume_with(new_affine).axis_codes == wanted
    assert reorientation.apply_to_spacing((1.0, 2.0, 3.0)) == volume_with(new_affine).spacing_mm
    for index in [(0, 0, 0), tuple(length - 1 for length in turned.shape), (1, 2, 1)]:
        place = new_affine @ [*index, 1]
        original = np.rint(np.linalg.solve(affine, place)[:3]).astype(int)
        assert turned[index] == voxels[tuple(original)]
    assert np.array_equal(reorientation.undo(turned), voxels)


@settings(max_examples=200)
@given(
    angles=st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    shear=st.tuples(*[st.floats(-0.4, 0.4)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.1, 9)] * 3),
    codes=st.sampled_from(CODES),
)
def test_orientations_are_those_of_nibabel(angles, shear, spacing_mm, codes) -> None:  # type: ignore[no-untyped-def]
    affine = np.eye(4)
    sheared = np.eye(3)
    sheared[np.triu_indices(3, 1)] = shear
    affine[:3, :3] = euler2mat(*angles) @ sheared @ np.diag(spacing_mm)
    turned = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(turned)
    entries = np.sort(np.abs(left @ right).ravel())
    # Where two axes are as near, either may be taken.
    assume(np.diff(entries).min() > 1e-9)
    moves = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    axes = np.argsort(moves[:, 0])
    found = orient_to(affine, codes)
    assert found.axes == tuple(axes)
    assert found.reverse == tuple(moves[axes, 1] < 0)
    assert volume_with(affine).axis_codes == "".join(aff2axcodes(affine))


def test_an_oblique_affine_goes_to_the_nearest_axes() -> None:
    affine = affine_of("LPS")
    affine[:3, :3] = euler2mat(0.3, 0.2, -0.3) @ affine[:3, :3]
    assert orient_to(affine, "LPS") == Reorientation()
    assert orient_to(affine, "RAS") == Reorientation((0, 1, 2), (True, True, False))


def test_reorientation_leaves_leading_axes_alone() -> None:
    array = np.arange(48).reshape(2, 2, 3, 4)
    reorientation = Reorientation((2, 0, 1), (True, False, True))
    turned = reorientation.apply(array)
    assert np.array_equal(turned[1], reorientation.apply(array[1]))
    assert np.array_equal(reorientation.undo(turned), array)
    assert np.shares_memory(turned, array)


@pytest.mark.parametrize("codes", ["", "RA", "RAX", "RRS", "LRS", "ras", "RASR"])
def test_codes_that_name_no_orientation_are_refused(codes: str) -> None:
    with pytest.raises(ValueError, match="names no orientation"):
        orient_to(np.eye(4), codes)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({(0, 0): np.nan}, "not a finite transform"),
        ({(1, 3): np.inf}, "not a finite transform"),
        ({(3, 0): 1.0}, "not a finite transform"),
        ({(1, 1): 0.0}, r"voxel size is 1 x 0 x 1 mm"),
        ({(1, 1): 1e200, (0, 1): 1e200}, "voxel size is 1 x inf x 1 mm"),
        ({(0, 1): 1.0, (1, 1): 0.0}, "singular"),
        ({(0, 1): 1.0, (1, 1): 1e-4}, "singular"),
    ],
)
def test_impossible_affines_are_refused(
    change: dict[tuple[int, int], float], complaint: str
) -> None:
    affine = np.eye(4)
    for entry, value in change.items():
        affine[entry] = value
    with pytest.raises(GeometryError, match=complaint) as refusal:
        volume_with(affine, source=(Path("scan.nii"),))
    assert "scan.nii" in str(refusal.value)


def test_a_tilted_gantry_is_accepted() -> None:
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(30))
    check_affine(affine, "scan")


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 0, 5), (0, 3, 4, 5)])
def test_voxels_need_four_axes_with_something_along_each(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(C, X, Y, Z\)"):
        Volume(np.ones(shape, np.float32), np.eye(4))


def test_voxels_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="float64; expected float32"):
        Volume(np.ones((1, 2, 2, 2)), np.eye(4))  # type: ignore[arg-type]


def test_an_affine_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(4, 4\)"):
        volume_with(np.eye(3))


@pytest.mark.parametrize(
    ("codes", "signs"), [("RAS", [1, 1, 1]), ("LPS", [-1, -1, 1]), ("LAI", [-1, 1, -1])]
)
def test_flipping_the_world_twice_changes_nothing(codes: str, signs: list[int]) -> None:
    affine = affine_of("PIR")
    flipped = flip_world(affine, codes)
    assert np.array_equal(flipped[:3], affine[:3] * np.array(signs)[:, None])
    assert np.array_equal(flip_world(flipped, codes), affine)
    assert not np.signbit(flipped[flipped == 0]).any()
