from __future__ import annotations

from pathlib import Path

import click
import pytest

from segmaformer.cli.cases import group_cases
from segmaformer.cli.scan_sources import Source, scans_below, scans_of_list
from segmaformer.runtime.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def found_below(folder: Path, pattern: str = "*") -> list[str]:
    scans = scans_below(folder, pattern, channels=1)
    return [str(scan.files[0].relative_to(folder)) for scan in scans]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ("b/x.nii", "a/x.nii.gz", "a/.y.nii", ".c/z.nii", "a/note.txt"),
            ["a/x.nii.gz", "b/x.nii"],
        ),
        (
            ("dataset_description.json", "sub-1/anat/t1.nii", "derivatives/sub-1/anat/seg.nii"),
            ["sub-1/anat/t1.nii"],
        ),
        (
            ("dataset.json", "imagesTr/a_0000.nii", "imagesTs/b_0000.nii", "labelsTr/a.nii"),
            ["imagesTr/a_0000.nii", "imagesTs/b_0000.nii"],
        ),
    ],
    ids=["folders", "BIDS", "nnU-Net"],
)
def test_scans_of_a_layout(tmp_path: Path, names: tuple[str, ...], expected: list[str]) -> None:
    assert found_below(touch(tmp_path, *names)) == expected


def test_a_pattern_chooses_among_the_files(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/sub-1_T1w.nii.gz", "sub-1/sub-1_bold.nii.gz")
    assert found_below(tmp_path, "*_T1w.nii.gz") == ["sub-1/sub-1_T1w.nii.gz"]
    with pytest.raises(InputError, match="no file below"):
        scans_below(tmp_path, "*_FLAIR*", channels=1)


def test_results_of_one_name_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    scans = touch(tmp_path / "in", "1/t1.nii", "2/t1.nii")
    out = tmp_path / "in" / "out"
    for _ in range(2):  # the second time the results lie below the scans
        cases = group_cases([scans], channels=1, output=out, source=Source(pattern="*"))
        places = [str(case.label_map.relative_to(out)) for case in cases]
        assert places == ["1/t1_seg.nii.gz", "2/t1_seg.nii.gz"]
        for case in cases:
            case.label_map.touch()
            case.record.touch()


def test_a_list_of_paths_keeps_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/1/t1.nii", "a/2/t1.nii")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{tmp_path}/a/2/t1.nii\n\n{tmp_path}/a/1/t1.nii\n")
    cases = group_cases([], channels=1, output=tmp_path / "out", source=Source(listed))
    assert [case.label_map for case in cases] == [
        tmp_path / "out/1/t1_seg.nii.gz",
        tmp_path / "out/2/t1_seg.nii.gz",
    ]


def test_a_table_names_cases_and_channels(tmp_path: Path) -> None:
    touch(tmp_path, "flair.nii", "t1.nii")
    table = tmp_path / "cases.csv"
    table.write_text(f"case,FLAIR,T1\nx,{tmp_path}/flair.nii, {tmp_path}/t1.nii\n")
    (case,) = group_cases([], channels=2, output=tmp_path / "out", source=Source(table))
    assert case.scan == (tmp_path / "flair.nii", tmp_path / "t1.nii")
    assert case.label_map == tmp_path / "out/x_seg.nii.gz"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", "\n", "lists no scans"),
        ("list.txt", "none.nii\n", "does not exist"),
        ("list.txt", "a.nii\na.nii\n", "2 times"),
        ("list.csv", "case,T1\n", "lists no scans"),
        ("list.csv", "case,T1\nx\n", "line 2"),
        ("list.csv", "case,T1\nx,\n", "line 2"),
        ("list.csv", "case,T1\n../x,a.nii\n", "no name of a file"),
        ("list.csv", "case,T1\nx,a.nii\nx,a.nii\n", "2 times"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, message: str
) -> None:
    monkeypatch.chdir(touch(tmp_path, "a.nii"))
    Path(name).write_text(content)
    with pytest.raises(click.UsageError, match=message):
        scans_of_list(Path(name), channels=1)


@pytest.mark.parametrize(
    ("names", "style", "expected"),
    [
        (("a_0000.nii.gz", "b_0000.nii.gz"), None, ["a.nii.gz", "b.nii.gz"]),
        (("a_0000.nii.gz", "b_0000.nii.gz"), "seg", ["a_0000_seg.nii.gz", "b_0000_seg.nii.gz"]),
        (("a_0000.nii.gz", "b.nii.gz"), None, ["a_0000_seg.nii.gz", "b_seg.nii.gz"]),
        (("a.nii.gz",), "nnunet", ["a.nii.gz"]),
    ],
)
def test_names_of_results(
    tmp_path: Path, names: tuple[str, ...], style: str | None, expected: list[str]
) -> None:
    scans = touch(tmp_path / "in", *names)
    out = tmp_path / "out"
    cases = group_cases([scans], channels=1, output=out, result_names=style)  # type: ignore[arg-type]
    assert [case.label_map.name for case in cases] == expected


def test_results_are_not_named_as_scans_among_them(tmp_path: Path) -> None:
    scans = touch(tmp_path / "in", "a_0000.nii.gz")
    (case,) = group_cases([scans], channels=1, output=scans)
    assert case.label_map.name == "a_0000_seg.nii.gz"
    with pytest.raises(click.UsageError, match="another folder"):
        group_cases([scans], channels=1, output=scans, result_names="nnunet")
