"""Read every input of a kind in a process of its own: ``run_kind.py KIND FOLDER``.

Prints a line of JSON for each as it ends: name, exit code, message, bytes held.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from hostile_input import HostileInput

KINDS = ("nifti", "nrrd", "metaimage", "gzip", "package", "reference", "label_map", "plans")
ADDRESS_SPACE_BYTES = 1 << 30
"""Beyond what the process has when it begins to read."""


def inputs_of(kind: str) -> list[HostileInput]:
    """Return every input of a kind, in order."""
    return [*importlib.import_module(f"{kind}_inputs").inputs()]


def main(kind: str, folder: Path) -> None:
    inputs = inputs_of(kind)
    _read(inputs[0], folder / "warm-up")  # imports take memory of their own
    _limit_address_space()
    for index, each in enumerate(inputs):
        print(json.dumps({"name": each.name, **_read(each, folder / str(index))}), flush=True)


def _limit_address_space() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read(each: HostileInput, folder: Path) -> dict[str, Any]:
    from support.scans.scan_files import peak_memory

    from segmaformer.cli.exit_codes import EXPECTED_ERRORS, exit_code, message_of

    folder.mkdir()
    path = each.write(folder)
    code, message = 0, ""
    with peak_memory() as peak:
        try:
            each.read(path)
        except EXPECTED_ERRORS as error:
            code, message = exit_code(error), message_of(error)
        except BaseException:
            code, message = -1, traceback.format_exc()
        return {"code": code, "message": message, "bytes": peak()}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
