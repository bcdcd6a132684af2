"""The table of dense networks in docs/reference/cpu.md, from documents that tile.py wrote.

python benchmarks/tile_table.py benchmarks/results/tile_*_avx512.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tile import BASELINE, OPENVINO, SGMF


def row(document: dict[str, Any]) -> str:
    """Return one network's line: seconds and MiB of each, then ours over the others'."""
    ours, openvino, pytorch = (document["results"][who] for who in (SGMF, OPENVINO, BASELINE))
    cells = [
        f"{each['fastest_ms'] / 1e3:.2f} | {each['peak_mib']:.0f}"
        for each in (ours, openvino, pytorch)
    ]
    ratios = (
        ours["fastest_ms"] / openvino["fastest_ms"],
        ours["fastest_ms"] / pytorch["fastest_ms"],
        ours["peak_mib"] / pytorch["peak_mib"],
        ours["fastest_ms"] / document["floor"]["floor_ms"],
    )
    return f"| {document['network']} | {' | '.join([*cells, *(f'{r:.2f}' for r in ratios)])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("documents", nargs="+", type=Path)
    columns = ["sgmf, `onnxruntime` s", "MiB", "OpenVINO, plain s", "MiB", "PyTorch eager s", "MiB"]
    columns += ["of OpenVINO's time", "of PyTorch's time", "of its memory", "of the floor"]
    print(f"| | {' | '.join(columns)} |\n|---{'|---:' * len(columns)}|")
    for path in parser.parse_args().documents:
        print(row(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
