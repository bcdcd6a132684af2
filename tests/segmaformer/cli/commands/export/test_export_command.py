from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.networks import TINY_TILE, save_tiny_checkpoint
from support.networks.nnunet_folders import write_model_folder
from support.packages.samples import head_like, with_scaled_weights, write_scan

torch = pytest.importorskip("torch")

from segmaformer.export import pipeline
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.spec import KeepLargest, Tiling
from segmaformer.runtime.system.digest import sha256_of

Sgmf = Callable[..., Any]
Tree = Callable[[Path], dict[str, bytes | None]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("trained") / "best.pth")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Any) -> None:
    """Trace once for all tests."""
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: tiny_onnx)


@pytest.fixture
def bare(trained: Path, tmp_path: Path) -> Path:
    """Write only the weights: no plans, no labels, no patch size."""
    weights = torch.load(trained, weights_only=True)["network_weights"]
    torch.save(weights, tmp_path / "bare.pt")
    return tmp_path / "bare.pt"


@pytest.mark.usefixtures("quick")
def test_a_checkpoint_becomes_a_package_whose_path_is_the_result(
    sgmf: Sgmf, trained: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    target = tmp_path / "brain.sgmf"
    run = sgmf("export", trained, "--fp16", "-o", target, "--verify-scan", scan)
    assert (run.code, run.stdout) == (0, f"{target}\n")
    lines = run.stderr.splitlines()
    assert lines[0].startswith("segmaformer, ")
    assert any(line.startswith("assumed: ") for line in lines)
    assert any(line.startswith("fp16: logits within ") for line in lines)
    package = Package.open(target)
    assert list(package.manifest.variants) == ["fp32", "fp16"]
    assert package.manifest.verification_tiles.endswith(f"of a scan, SHA-256 {sha256_of(scan)}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["brain.sgmf", "scan.nii.gz"]


@pytest.mark.usefixtures("quick")
def test_the_licence_travels_with_the_package(sgmf: Sgmf, trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "brain.sgmf"
    run = sgmf("export", trained, "-o", target, "--licence", " CC BY-SA 4.0 ")
    assert run.code == 0
    assert "licence: CC BY-SA 4.0\n" in run.stderr
    assert Package.open(target).manifest.network.licence == "CC BY-SA 4.0"
    assert "under: CC BY-SA 4.0." in (target / "card.md").read_text()
    assert "licence: CC BY-SA 4.0" in sgmf("inspect", target).stdout.splitlines()


@pytest.mark.parametrize("name", ["", " ", "text " * 50])
def test_a_licence_is_a_short_name(sgmf: Sgmf, trained: Path, name: str) -> None:
    run = sgmf("export", trained, "--licence", name)
    assert run.code == 2
    assert "expected a licence's name, 1 to 200" in run.stderr


@pytest.mark.usefixtures("quick")
def test_by_default_the_package_appears_in_the_current_folder(
    sgmf: Sgmf, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = sgmf("export", trained)
    assert (run.code, run.stdout) == (0, "best.sgmf\n")
    assert Package.open("best.sgmf").manifest.name == "best"


@pytest.mark.usefixtures("quick")
def test_an_existing_package_needs_overwrite(sgmf: Sgmf, trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "brain.sgmf"
    assert sgmf("export", trained, "-o", target).code == 0
    first = Package.open(target)
    run = sgmf("export", trained, "-o", target)
    assert (run.code, run.stdout) == (2, "")
    assert "--overwrite" in run.stderr
    assert Package.open(target) == first
    assert sgmf("export", trained, "-o", target, "--overwrite", "--fp16").code == 0
    assert "fp16" in Package.open(target).manifest.variants


def test_a_network_that_computes_something_else_is_not_written(
    sgmf: Sgmf,
    trained: Path,
    tmp_path: Path,
    tree: Tree,
    tiny_onnx: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = with_scaled_weights(tiny_onnx, 1.01)
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: wrong)
    before = tree(tmp_path)
    run = sgmf("export", trained, "--fp16", "-o", tmp_path / "brain.sgmf")
    assert (run.code, run.stdout) == (4, "")
    for text in ("fp32 does not match PyTorch: logits differ by", "tile", "channel", "voxel ("):
        assert text in run.stderr
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("quick")
def test_recorded_logits_decide_as_well(
    sgmf: Sgmf, trained: Path, tmp_path: Path, tiny_checkpoint: Any
) -> None:
    tile = np.random.default_rng(0).normal(size=(1, *TINY_TILE)).astype(np.float32)
    with torch.no_grad():
        logits = tiny_checkpoint.model(torch.from_numpy(tile[None]))[0].numpy()
    np.savez_compressed(tmp_path / "right.npz", input=tile, logits=logits)
    np.savez_compressed(tmp_path / "wrong.npz", input=tile, logits=logits[:, ::-1])
    target = tmp_path / "brain.sgmf"
    run = sgmf("export", trained, "-o", target, "--reference", tmp_path / "wrong.npz")
    assert run.code == 4
    assert "fp32 does not match the recorded logits: logits differ by" in run.stderr
    assert not target.exists()
    run = sgmf("export", trained, "-o", target, "--reference", tmp_path / "right.npz")
    assert run.code == 0
    parity = Package.open(target).manifest.variants["fp32"].parity
    assert parity["recorded_tiles"] == 1
    assert parity["recorded_error"] < 1e-5
    assert "On 1 recorded tile it is within" in (target / "card.md").read_text()
    run = sgmf("export", trained, "-o", target, "--reference", trained)
    assert run.code == 3
    assert "is no recorded reference" in run.stderr


def test_a_patch_size_and_a_window_can_be_given(
    sgmf: Sgmf,
    bare: Path,
    tmp_path: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    tiny_onnx: Any,
) -> None:
    before = tree(tmp_path)
    run = sgmf("export", bare, "-o", tmp_path / "bare.sgmf", "--set", "num_heads=[1,1,1,2]")
    assert (run.code, run.stdout) == (3, "")
    assert "patch" in run.stderr
    assert tree(tmp_path) == before
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: tiny_onnx)
    size = ",".join(map(str, TINY_TILE))
    options = ("--patch-size", size, "--set", "num_heads=[1,1,1,2]", "--set", "use_rope=true")
    window = ("--tiling", "monai-constant", "--overlap", "0.25")
    run = sgmf("export", bare, "-o", tmp_path / "bare.sgmf", *options, *window)
    assert run.code == 0, run.stderr
    tiling = Package.open(tmp_path / "bare.sgmf").manifest.tiling
    assert tiling == Tiling(TINY_TILE, step=0.75, gaussian=False, scheme="monai")


def test_an_overlap_that_leaves_no_step_is_misuse(sgmf: Sgmf, trained: Path) -> None:
    run = sgmf("export", trained, "--overlap", "1")
    assert (run.code, run.stdout) == (2, "")
    assert "overlap is 1" in run.stderr


class Malicious:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._path),))


def malicious(path: Path) -> None:
    torch.save({"state_dict": Malicious(path.with_name("pwned"))}, path)


def malicious_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious(path.with_name("pwned"))))


def another_network(path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(3, 3)}, path)


def known_by_name_only(path: Path) -> None:
    torch.save({"some.weight": torch.zeros(1), "vit.other": torch.zeros(2)}, path)


def text(path: Path) -> None:
    path.write_text("weights, to be uploaded\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    save_tiny_checkpoint(path)
    path.write_bytes(path.read_bytes()[:20_000])


def without_one_weight(path: Path) -> None:
    save_tiny_checkpoint(path)
    content = torch.load(path, weights_only=True)
    del content["network_weights"]["decoder.pred.bias"]
    torch.save(content, path)


def diverged(path: Path) -> None:
    save_tiny_checkpoint(path)
    content = torch.load(path, weights_only=True)
    content["network_weights"]["decoder.pred.bias"][0] = float("nan")
    torch.save(content, path)


@pytest.mark.parametrize(
    "write",
    [
        malicious,
        malicious_pickle,
        another_network,
        known_by_name_only,
        text,
        empty,
        cut,
        without_one_weight,
        diverged,
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_and_runs_nothing(
    sgmf: Sgmf, tmp_path: Path, tree: Tree, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "checkpoint.pth"
    write(path)
    before = tree(tmp_path)
    for arguments in (("export", path, "-o", tmp_path / "x.sgmf"), ("inspect", path)):
        run = sgmf(*arguments)
        assert (run.code, run.stdout) == (3, "")
        assert run.stderr.startswith("sgmf: ")
        assert len(run.stderr.splitlines()) == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.pth"], "none.pth"),
        (["{trained}", "--arch", "unet"], "unknown network 'unet'"),
        (["{trained}", "--set", "use_rope"], "expected KEY=VALUE"),
        (["{trained}", "--set", "colour=1"], "colour"),
        (["{trained}", "--patch-size", "64"], "D,H,W"),
        (["{trained}", "--verify-scan", "none.nii"], "none.nii"),
        (["{trained}", "--plans", "none.json"], "none.json"),
        (["{trained}", "-o", "{folder}"], "exists"),
        (["{trained}", "--nan-to", "0"], "--nan-to needs scans"),
        (["{trained}", "--int8"], "--calibration-data DIR go together"),
        (["{trained}", "--calibration-data", "{folder}"], "go together"),
        (["{trained}", "-o", "{folder}", "--overwrite"], "is not replaced"),
        (["{trained}", "-o", "{folder}/none/x.sgmf"], "create it first"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_written(
    sgmf: Sgmf, trained: Path, tmp_path: Path, tree: Tree, arguments: list[str], complaint: str
) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    before = tree(tmp_path)
    places = {"trained": trained, "folder": tmp_path}
    run = sgmf("export", *(argument.format(**places) for argument in arguments))
    assert (run.code, run.stdout) == (2, "")
    assert complaint in run.stderr
    assert tree(tmp_path) == before


def test_a_folder_without_an_index_is_refused(sgmf: Sgmf, tmp_path: Path) -> None:
    run = sgmf("export", tmp_path)
    assert (run.code, run.stdout) == (3, "")
    assert "is a folder; give the checkpoint file itself" in run.stderr


@pytest.mark.parametrize("count", [1, 2])
def test_a_scan_to_verify_on_that_does_not_fit_is_refused(
    sgmf: Sgmf, trained: Path, tmp_path: Path, tree: Tree, count: int
) -> None:
    scan = write_scan(tmp_path / "scan.nii")
    if count == 1:
        scan.write_bytes(scan.read_bytes()[:1000])
    before = tree(tmp_path)
    scans = [argument for _ in range(count) for argument in ("--verify-scan", scan)]
    run = sgmf("export", trained, "-o", tmp_path / "x.sgmf", *scans)
    assert (run.code, run.stdout) == (3, "")
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("quick")
def test_nan_in_a_scan_to_verify_on_is_refused_or_replaced(
    sgmf: Sgmf, trained: Path, tmp_path: Path, tree: Tree
) -> None:
    voxels = head_like((30, 34, 28))
    voxels[3, 4, 5], voxels[6, 7, 8] = np.nan, np.inf
    scan = write_scan(tmp_path / "scan.nii.gz", voxels)
    before = tree(tmp_path)
    arguments = ("export", trained, "-o", tmp_path / "x.sgmf", "--verify-scan", scan)
    run = sgmf(*arguments)
    assert (run.code, run.stdout) == (3, "")
    assert "--nan-to VALUE" in run.stderr
    assert tree(tmp_path) == before
    assert sgmf(*arguments, "--nan-to", "0").code == 0
    tiles = Package.open(tmp_path / "x.sgmf").manifest.verification_tiles
    assert tiles.endswith("voxels that were NaN or infinite counted as 0")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="this system has no /sys")
def test_a_folder_that_takes_no_files_is_told_before_the_work(
    sgmf: Sgmf, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: pytest.fail("worked in vain"))
    run = sgmf("export", trained, "-o", "/sys/kernel/x.sgmf")
    assert (run.code, run.stdout) == (1, "")
    assert "cannot write /sys/kernel/x.sgmf" in run.stderr


@pytest.mark.usefixtures("quick")
def test_an_interrupt_leaves_nothing(
    sgmf: Sgmf, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "ParityGate", interrupt)
    run = sgmf("export", trained, "-o", tmp_path / "x.sgmf")
    assert (run.code, run.stdout) == (1, "")
    assert run.stderr.endswith("sgmf: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_postprocessing_is_taken_from_the_folder_or_a_file(sgmf: Sgmf, tmp_path: Path) -> None:
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir()
    write_model_folder(folder, ["0"])
    function = "remove_all_but_largest_component_from_segmentation"
    kwargs = [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2}]
    document = {"postprocessing_fns": [function] * 2, "postprocessing_kwargs": kwargs}
    (folder / "crossval_results_folds_0").mkdir()
    there = folder / "crossval_results_folds_0" / "postprocessing.json"
    there.write_text(json.dumps(document))
    given = tmp_path / "other.json"
    given.write_text(json.dumps({key: values[1:] for key, values in document.items()}))
    both, one = KeepLargest((1, 2)), KeepLargest((2,))
    for options, expected in (
        ((), (both, one)),
        (("--postprocessing", given), (one,)),
        (("--no-postprocessing",), ()),
    ):
        target = tmp_path / "brain.sgmf"
        run = sgmf("export", folder, "--folds", "0", "-o", target, "--overwrite", *options)
        assert run.code == 0, run.stderr
        assert Package.open(target).manifest.postprocessing == expected
        card = (target / "card.md").read_text()
        assert ("largest component of 2" in card) == bool(expected)
        assert ("postprocessing of " in run.stderr) == bool(expected)
    run = sgmf("export", folder, "--postprocessing", given, "--no-postprocessing")
    assert (run.code, "exclude each other" in run.stderr) == (2, True)
