"""Names of results that belong to something else; nothing there may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hostile.hostile_input import TAKEN, USAGE, HostileInput
from hostile.inputs.checkpoint import good
from hostile.inputs.nifti import nifti

INFER = ("infer", "{path}/scan.nii", "-m", "{path}/model.sgmf")
EXPORT = ("export", "{path}/model.pth")


def inputs() -> Iterator[HostileInput]:
    for name in _RESULTS:
        yield _refused(f"labels onto {name}", *INFER, "-o", f"{{path}}/{name}")
    for name in _REPORTS:
        arguments = ("-o", "{out}/a.nii", "--report", f"{{path}}/{name}")
        yield _refused(f"a report onto {name}", *INFER, *arguments)
    yield _refused("a label map that no run made", "infer", "{path}/drawn.nii", *INFER[2:])
    for name in ("file", "scan.nii"):
        arguments = ("infer", "{path}/scans", *INFER[2:], "-o", f"{{path}}/{name}")
        yield _refused(f"labels of a folder onto {name}", *arguments)
    for name in _PACKAGES:
        for more in ((), ("--overwrite",)):
            arguments = (*EXPORT, "-o", f"{{path}}/{name}", *more)
            yield _refused(" ".join(("a package onto", name, *more)), *arguments)
    yield _refused("a package onto another", *EXPORT, "-o", "{path}/model.sgmf")
    yield HostileInput(
        "labels into an empty folder",
        write,
        None,
        TAKEN,
        command=(*INFER, "-o", "{out}"),
        left=("scan_seg.nii.gz", "scan_seg.run.json"),
    )


def _refused(name: str, *command: str) -> HostileInput:
    return HostileInput(name, write, None, USAGE, command=command)


def write(folder: Path) -> Path:
    """Write a scan, a checkpoint, a package, and what has nothing to do with them."""
    from hostile.run_kind import write_small_package

    write_small_package(folder / "model.sgmf")
    for name in ("scan.nii", "drawn.nii", "drawn_seg.nii.gz"):
        (folder / name).write_bytes(nifti())
    (folder / "model.pth").write_bytes(good())
    (folder / "file").write_text("precious")
    for name in ("folder", "folder.sgmf", "scans"):
        (folder / name).mkdir()
        (folder / name / "scan.nii").write_bytes(nifti())
    for name, make in _LINKS.items():
        make(folder / name)
    return folder


_LINKS: dict[str, Callable[[Path], object]] = {
    "to-scan.nii": lambda path: path.symlink_to("scan.nii"),
    "to-package": lambda path: path.symlink_to("model.sgmf"),
    "to-manifest.nii": lambda path: path.symlink_to("model.sgmf/manifest.json"),
    "loop.sgmf": lambda path: path.symlink_to("loop.sgmf"),
}
_RESULTS = (
    *("scan.nii", "./scan.nii", "folder/../scan.nii", "to-scan.nii", "file", "model.pth"),
    *("model.sgmf", "to-package", "model.sgmf/a.nii", "model.sgmf/manifest.json"),
    *("to-package/fp32.onnx", "to-manifest.nii", "file/a.nii", "nowhere/a.nii"),
)
_REPORTS = (
    *("scan.nii", "file", "model.pth", "model.sgmf", "model.sgmf/a.html", "model.sgmf/card.md"),
    *("to-package", "nowhere/a.html", "file/a.html"),
)
_PACKAGES = (
    *("model.pth", "file", "scan.nii", "folder", "folder.sgmf", ".", "loop.sgmf", "to-package"),
    *("model.sgmf/a.sgmf", "nowhere/a.sgmf", "file/a.sgmf"),
)
