from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from segmaformer.cli.cases import Case, Wanted, group_cases
from segmaformer.cli.scan_sources import Source
from segmaformer.runtime.errors import InputError


def files(folder: Path, *names: str) -> tuple[Path, ...]:
    for name in names:
        (folder / name).write_bytes(b"")
    return tuple(folder / name for name in names)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("scan.nii.gz", "scan_seg.nii.gz"),
        ("scan.nii", "scan_seg.nii.gz"),
        ("SCAN.NII.GZ", "SCAN_seg.nii.gz"),
        ("sub-01.ses.2_T1w.nii.gz", "sub-01.ses.2_T1w_seg.nii.gz"),
        ("scan.gz", "scan_seg.nii.gz"),
        ("scan", "scan_seg.nii.gz"),
        ("with space.nii", "with space_seg.nii.gz"),
    ],
)
def test_label_maps_lie_beside_their_scans_by_default(
    tmp_path: Path, name: str, output: str
) -> None:
    (case,) = group_cases(files(tmp_path, name), channels=1)
    assert case == Case((tmp_path / name,), tmp_path / output)


def test_all_results_share_one_name(tmp_path: Path) -> None:
    (case,) = group_cases(
        files(tmp_path, "a.b.nii.gz"), channels=1, wanted=Wanted(preview=True, statistics=True)
    )
    assert case.results == [
        tmp_path / name for name in ("a.b_seg.nii.gz", "a.b_seg.png", "a.b_seg.json")
    ]


def test_an_existing_folder_takes_any_number(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    scans = files(tmp_path, "a.nii", "b.nii.gz")
    cases = group_cases(scans, channels=1, output=tmp_path / "out", wanted=Wanted(preview=True))
    assert [case.label_map.name for case in cases] == ["a_seg.nii.gz", "b_seg.nii.gz"]
    assert {path.parent for case in cases for path in case.results} == {tmp_path / "out"}


@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz", "LABELS.NII.GZ"])
def test_a_file_takes_one_scan(tmp_path: Path, name: str) -> None:
    (case,) = group_cases(
        files(tmp_path, "a.nii"), channels=1, output=tmp_path / name, wanted=Wanted(statistics=True)
    )
    assert case.label_map == tmp_path / name
    assert case.statistics is not None
    assert case.statistics.stem.lower() == "labels"


def test_channels_are_grouped_in_order(tmp_path: Path) -> None:
    scans = files(tmp_path, "a0.nii", "a1.nii", "b0.nii", "b1.nii")
    cases = group_cases(scans, channels=2)
    assert [case.scan for case in cases] == [scans[:2], scans[2:]]
    assert [case.label_map.name for case in cases] == ["a0_seg.nii.gz", "b0_seg.nii.gz"]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_number_of_files_that_does_not_fit_is_refused(tmp_path: Path, count: int) -> None:
    scans = files(tmp_path, *(f"{index}.nii" for index in range(count)))
    with pytest.raises(InputError, match=rf"takes 2 channels.*; {count} were given"):
        group_cases(scans, channels=2)


@pytest.mark.parametrize("name", ["labels.mhz", "labels", "labels.nii.zip", "folder/"])
def test_an_output_of_no_known_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(click.UsageError, match=r"must end in \.nii\.gz, .*\.dcm, or be an exist"):
        group_cases(files(tmp_path, "a.nii"), channels=1, output=tmp_path / name)


def test_one_file_cannot_take_two_scans(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="is no folder, and there are 2 scans"):
        group_cases(files(tmp_path, "a.nii", "b.nii"), channels=1, output=tmp_path / "o.nii")


def test_two_scans_of_one_name_are_refused(tmp_path: Path) -> None:
    scans = files(tmp_path, "a.nii", "a.nii.gz")
    with pytest.raises(click.UsageError, match="2 results would be written"):
        group_cases(scans, channels=1)
    with pytest.raises(click.UsageError, match="2 results would be written"):
        group_cases((scans[0], scans[0]), channels=1)


def test_no_scan_is_ever_replaced(tmp_path: Path) -> None:
    scans = files(tmp_path, "a.nii.gz", "a_seg.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(scans[0])
    for given, output in (
        (scans, None),
        (scans[:1], scans[0]),
        (scans[:1], tmp_path / "link.nii.gz"),
        (scans[:1], tmp_path / "." / "a.nii.gz"),
    ):
        with pytest.raises(click.UsageError, match="is a scan and would be replaced"):
            group_cases(given, channels=1, output=output)


def test_a_label_map_that_no_run_made_is_replaced_by_name_alone(tmp_path: Path) -> None:
    scan, label_map = files(tmp_path, "a.nii.gz", "a_seg.nii.gz")
    for output in (None, tmp_path):
        with pytest.raises(click.UsageError, match=r"no a_seg\.run\.json beside it"):
            group_cases([scan], channels=1, output=output)
    assert group_cases([scan], channels=1, output=label_map)[0].label_map == label_map
    files(tmp_path, "a_seg.run.json")
    assert group_cases([scan], channels=1)[0].label_map == label_map


@pytest.mark.parametrize("name", ["", "labels.nii.gz", "below/labels.nii.gz"])
def test_no_result_lies_in_the_package(tmp_path: Path, name: str) -> None:
    package = tmp_path / "model.sgmf"
    (package / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(package)
    (scan,) = files(tmp_path, "a.nii.gz")
    for folder in (package, tmp_path / "link"):
        with pytest.raises(click.UsageError, match="would lie in the package"):
            group_cases([scan], channels=1, output=folder / name, package=package)
    with pytest.raises(click.UsageError, match="would lie in the package"):
        group_cases([scan], channels=1, wanted=Wanted(report=package), package=package)


def test_a_file_is_no_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files(tmp_path / "in", "x.nii.gz")
    (output,) = files(tmp_path, "out")
    with pytest.raises(click.UsageError, match="is a file; the scans of folder"):
        group_cases([tmp_path / "in"], channels=1, output=output)


def test_a_second_channel_is_not_replaced_either(tmp_path: Path) -> None:
    scans = files(tmp_path, "a.nii.gz", "b.nii.gz")
    with pytest.raises(click.UsageError, match=r"b\.nii\.gz is a scan and would be replaced"):
        group_cases(scans, channels=2, output=scans[1])


def test_label_maps_are_in_kind(tmp_path: Path) -> None:
    scans = files(tmp_path, "a.nrrd", "b.mha")
    names = [case.label_map.name for case in group_cases(scans, channels=1)]
    assert names == ["a_seg.nrrd", "b_seg.mha"]


def test_a_folder_is_grouped_by_channel_numbers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files(tmp_path / "in", "x_0001.nii.gz", "x_0000.nii.gz", "y_0000.nii.gz", "notes.txt")
    cases = group_cases([tmp_path / "in"], channels=2, output=tmp_path / "out")
    assert [[path.name for path in case.scan] for case in cases] == [
        ["x_0000.nii.gz", "x_0001.nii.gz"],
        ["y_0000.nii.gz"],
    ]
    assert cases[0].refusal is None
    assert "0001" in (cases[1].refusal or "")


def test_a_folder_needs_a_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files(tmp_path / "in", "x.nii.gz")
    for output in (None, tmp_path / "labels.nii.gz"):
        with pytest.raises(click.UsageError, match="need a folder for results"):
            group_cases([tmp_path / "in"], channels=1, output=output)


def test_a_folder_and_files_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (scan,) = files(tmp_path, "x.nii.gz")
    with pytest.raises(click.UsageError, match="but not both"):
        group_cases([tmp_path / "in", scan], channels=1, output=tmp_path)


def test_numbered_files_of_one_channel_are_scans_of_their_own(tmp_path: Path) -> None:
    scans = files(tmp_path, "amos_0004.nii.gz", "amos_0001.nii.gz")
    assert [case.scan for case in group_cases(scans, channels=1)] == [(scan,) for scan in scans]


def test_numbered_channels_may_come_in_any_order(tmp_path: Path) -> None:
    scans = files(tmp_path, "x_0001.nii.gz", "x_0000.nii.gz")
    (case,) = group_cases(scans, channels=2)
    assert [path.name for path in case.scan] == ["x_0000.nii.gz", "x_0001.nii.gz"]


def test_results_among_the_scans_are_no_scans(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files(tmp_path / "in", "x.nii.gz", "x_seg.nii.gz", "x_seg.run.json")
    cases = group_cases([tmp_path / "in"], channels=1, output=tmp_path / "in")
    assert [case.name for case in cases] == ["x.nii.gz"]


@pytest.mark.parametrize("output", [".", "..", "../.."])
def test_results_may_lie_above_the_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    (tmp_path / "a" / "in").mkdir(parents=True)
    files(tmp_path / "a" / "in", "a.nii.gz")
    monkeypatch.chdir(tmp_path / "a")
    for scans in (Path("in"), tmp_path / "a" / "in"):
        for place in (Path(output), Path(os.path.realpath(output))):
            (case,) = group_cases([scans], channels=1, output=place)
            assert case.name == "a.nii.gz"


def test_results_below_the_scans_are_no_scans(tmp_path: Path) -> None:
    output = tmp_path / "in" / "out"
    output.mkdir(parents=True)
    files(tmp_path / "in", "a.nii.gz")
    (done,) = files(output, "a_seg.nii.gz")
    done.with_name("a_seg.run.json").touch()
    (output / "linked_seg.nii.gz").symlink_to(tmp_path / "in" / "a.nii.gz")
    (case,) = group_cases([tmp_path / "in"], channels=1, output=output, source=Source(pattern="*"))
    assert case.label_map == done


def test_a_report_goes_where_it_is_wanted(tmp_path: Path) -> None:
    one, two = files(tmp_path, "a.nii", "b.nii")
    (case,) = group_cases([one], channels=1, wanted=Wanted(report=tmp_path / "x.html"))
    assert case.report == tmp_path / "x.html"
    cases = group_cases([one, two], channels=1, wanted=Wanted(report=tmp_path))
    assert [case.report for case in cases] == [tmp_path / "a_seg.html", tmp_path / "b_seg.html"]


@pytest.mark.parametrize(("name", "count"), [("x.html", 2), ("x.txt", 1)])
def test_a_report_that_cannot_be_is_refused(tmp_path: Path, name: str, count: int) -> None:
    scans = files(tmp_path, "a.nii", "b.nii")[:count]
    with pytest.raises(click.UsageError, match="--report"):
        group_cases(scans, channels=1, wanted=Wanted(report=tmp_path / name))
