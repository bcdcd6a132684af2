"""Read every input of some kinds in a process of their own: ``run_kind.py FOLDER KIND ...``.

Prints a line of JSON for each as it ends: kind, name, exit code, message, bytes held, and how the
command ended. Kinds share a process because importing PyTorch takes longer than most of them.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import resource
import stat
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from hostile.hostile_input import HostileInput

CHECK, INSPECT = ("check", "{path}"), ("inspect", "{path}")
KINDS: dict[str, tuple[str, ...]] = {
    "nifti": CHECK,
    "nrrd": CHECK,
    "metaimage": CHECK,
    "gzip": CHECK,
    "package": INSPECT,
    "network": (),
    "reference": (),
    "label_map": (),
    "checkpoint": (),
    "safetensors": (),
    "document": INSPECT,
    "plans": (),
    "file_name": (),
    "batch": (),
    "export": (),
    "output": (),
}
"""The arguments of ``sgmf`` for inputs that name none of their own."""
WITH_PYTORCH = ("checkpoint", "safetensors", "document", "plans", "export", "output")
WITHOUT_PYTORCH = tuple(kind for kind in KINDS if kind not in WITH_PYTORCH)
ADDRESS_SPACE_BYTES = 1 << 30
"""Beyond what the process has when it begins to read."""


def inputs_of(kind: str) -> list[HostileInput]:
    """Return every input of a kind, in order."""
    return [*importlib.import_module(f"hostile.inputs.{kind}").inputs()]


def main(folder: Path, *kinds: str) -> None:
    corpus = {kind: inputs_of(kind) for kind in kinds}
    for kind, inputs in corpus.items():
        (folder / kind).mkdir()
        _warm_up(kind, inputs[0], folder / kind)
    gc.collect()
    gc.freeze()  # the modules' objects, through which every collection below would go
    _limit_address_space()
    for kind, inputs in corpus.items():
        for index, each in enumerate(inputs):
            place = folder / kind / str(index)
            found = _read(each, place) if each.read else {}
            arguments = each.command or KINDS[kind]
            if arguments:
                found["command"] = _run(each, arguments, place.with_name(f"{index}-command"))
            print(json.dumps({"kind": kind, "name": each.name, **found}), flush=True)


def _warm_up(kind: str, first: HostileInput, folder: Path) -> None:
    """Import what the kind takes, which needs memory of its own."""
    from segmaformer.cli.exit_codes import EXPECTED_ERRORS

    if first.read:
        (folder / "warm-up").mkdir()
        with suppress(*EXPECTED_ERRORS):
            first.read(first.write(folder / "warm-up"))
    _run(first, first.command or KINDS[kind] or ("list",), folder / "warm-up-command")


def _limit_address_space() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read(each: HostileInput, folder: Path) -> dict[str, Any]:
    """Tell what became of an input that is read."""
    from support.scans.scan_files import peak_memory

    from segmaformer.cli.exit_codes import EXPECTED_ERRORS, exit_code, message_of

    folder.mkdir()
    path = each.write(folder)
    code, message = 0, ""
    with peak_memory() as peak:
        try:
            if each.read:
                each.read(path)
        except EXPECTED_ERRORS as error:
            code, message = exit_code(error), message_of(error)
        except BaseException:
            code, message = -1, traceback.format_exc()
        return {"code": code, "message": message, "bytes": peak()}


def _run(each: HostileInput, arguments: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Tell how the command ended on an input, what it printed and what it left."""
    from segmaformer.cli import main

    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    places = {"path": os.fspath(each.write(folder / "in")), "out": str(folder / "out")}
    package = str(_package(folder.parent)) if "{package}" in arguments else ""
    before = _files(folder / "in")
    code: Any = None
    with _streams(folder) as printed:
        try:
            main([argument.format(**places, package=package) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
    gc.collect()  # sessions
    stdout, stderr = printed()
    left = sorted(path.name for path in (folder / "out").iterdir())
    strays = sorted({path for path, *_ in _files(folder / "in") ^ before})
    return {"code": code, "stdout": stdout, "stderr": stderr, "left": left, "strays": strays}


@functools.cache
def _package(folder: Path) -> Path:
    return write_small_package(folder / "small.sgmf")


def write_small_package(path: Path) -> Path:
    """Write a package of one channel and one organ."""
    from support.packages.small_packages import write_package

    from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

    output = Output((Label(0, "background"), Label(1, "organ")))
    spec = Preprocessing(("MR",), (Normalization("zscore"),))
    return write_package(path, spec, output)


def _files(folder: Path) -> set[tuple[str, int, int, int]]:
    """Return every path with what changes as soon as it is replaced or written to."""
    states = ((str(path), path.lstat()) for path in folder.rglob("*"))
    return {
        (path, state.st_ino, state.st_size, 0 if stat.S_ISDIR(state.st_mode) else state.st_mtime_ns)
        for path, state in states
    }


@contextmanager
def _streams(folder: Path) -> Iterator[Any]:
    """Collect what goes to both standard streams, from libraries too; call what it gives after."""
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    files = [(folder / name).open("w+b") for name in ("stdout", "stderr")]
    for descriptor, file in zip((1, 2), files, strict=True):
        os.dup2(file.fileno(), descriptor)
    texts: list[str] = []
    try:
        yield lambda: texts
    finally:
        for descriptor, file, before in zip((1, 2), files, kept, strict=True):
            (sys.stdout, sys.stderr)[descriptor - 1].flush()
            os.dup2(before, descriptor)
            os.close(before)
            file.seek(0)
            texts.append(os.fsdecode(file.read()))
            file.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
