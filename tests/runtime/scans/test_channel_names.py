from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmaformer.runtime.scans.channel_names import check_channel_names

BRATS = ("T1", "T1ce", "T2", "FLAIR")


def warned(files: list[str], channels: tuple[str, ...]) -> list[str]:
    findings = check_channel_names([Path(f"folder_t1/{name}") for name in files], channels)
    return [finding.what for finding in findings]


@pytest.mark.parametrize(
    ("files", "channels"),
    [
        (["case_flair.nii.gz", "case_t1.nii.gz"], ("T1", "FLAIR")),
        (["FLAIR.nrrd", "T1.mha"], ("T1", "FLAIR")),
        (["p1-FLAIR.nii", "p1-T1w.nii"], ("T1", "FLAIR")),
        (["a_T1.nii", "a_T1w_x.nii", "a_flair.nii"], ("T1 x", "T1", "FLAIR")),
        (["x_t1ce.nii", "x_t1.nii", "x_t2.nii", "x_flair.nii"], BRATS),
        (["x_t1.nii", "x_t1ce.nii", "x_t2-flair.nii", "x_t2.nii"], BRATS),
        (["sub-01_PET.nii.gz", "sub-01_CT.nii.gz"], ("CT", "PET")),
        (["a_t1_post.nii", "a_t1_pre.nii"], ("T1 pre", "T1 post")),
    ],
)
def test_another_order_is_warned_of(files: list[str], channels: tuple[str, ...]) -> None:
    (what,) = warned(files, channels)
    assert ", ".join(files) in what
    assert ", ".join(channels) in what


@pytest.mark.parametrize(
    ("files", "channels"),
    [
        (["case_t1.nii.gz", "case_flair.nii.gz"], ("T1", "FLAIR")),
        (["x_t1.nii", "x_t1ce.nii", "x_t2.nii", "x_t2-flair.nii"], BRATS),
        (["x_t1c.nii", "x_t1.nii"], ("T1", "T1ce")),  # one name is unknown
        (["x_flair.nii", "x_t1c.nii"], ("T1", "FLAIR")),
        (["a_t2_flair.nii", "a_t1.nii"], ("T2", "FLAIR")),
        (["b.nii", "a.nii"], ("T1", "FLAIR")),
        (["t1_flair_1.nii", "t1_flair_0.nii"], ("T1", "FLAIR")),
        (["case_1.nii", "case_0.nii"], ("0", "1")),
        (["case_0000.nii", "case_0001.nii"], ("T1", "FLAIR")),
        (["both.nrrd"], ("T1", "FLAIR")),
        (["a_ct.nii"], ("CT",)),
        (["flairy_1.nii", "xt1.nii"], ("T1", "FLAIR")),
    ],
)
def test_nothing_is_said_where_names_do_not_tell(
    files: list[str], channels: tuple[str, ...]
) -> None:
    assert warned(files, channels) == []


@given(st.permutations(range(4)))
def test_every_wrong_order_and_no_right_one_is_warned_of(order: list[int]) -> None:
    files = [f"case_{BRATS[index]}.nii.gz" for index in order]
    assert bool(warned(files, BRATS)) == (order != [0, 1, 2, 3])


@given(st.lists(st.text(max_size=12), min_size=2, max_size=5), st.data())
def test_any_names_are_looked_at(channels: list[str], data: st.DataObject) -> None:
    names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12)
    files = data.draw(st.lists(names, min_size=len(channels), max_size=len(channels)))
    [*check_channel_names([Path(name) for name in files], channels)]
