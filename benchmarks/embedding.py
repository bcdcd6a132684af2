"""A volume of one tile through libsgmf, through Python, and the network alone, in one run.

    python benchmarks/embedding.py --out embedding.json

The network is a SegMaFormer with random weights, which changes nothing in the work; the volume
is a CT of the size of one tile on the network's own grid. All have the same backend, threads and
precision; the error is that of the label maps, zero if they are the same.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from pipeline import make_checkpoint
from turns import Run, available_threads, report, table, take_turns

NETWORK = "network alone"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples/embedding"


def make_volume(extent: int) -> np.ndarray:
    """Make Hounsfield units (1, X, Y, Z), float32, X fastest as scanners store them."""
    noise = np.random.default_rng(0).normal(40, 120, (1, extent, extent, extent))
    smooth = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)
    return np.asfortranarray(smooth.astype(np.float32)[0])[None]


def through_python(package: Path, extent: int) -> Run:
    from segmaformer.runtime import Package, Predictor
    from segmaformer.runtime.scans.volume import Volume

    predictor = Predictor(Package.open(package), "onnxruntime")
    volume = Volume(make_volume(extent), np.eye(4))
    return lambda: predictor.predict(volume).labels


def through_c(package: Path, extent: int) -> Run:
    import onnxruntime

    from segmaformer.runtime.bindings.installed_library import installed_library

    sys.path.insert(0, str(EXAMPLES))
    from segment_raw import Model

    capi = Path(onnxruntime.__file__).parent / "capi"
    ctypes.CDLL(None).setenv(b"SGMF_ONNXRUNTIME", bytes(next(capi.glob("libonnxruntime.so*"))), 1)
    library = installed_library("libsgmf", what="C library", remedy="reinstall segmaformer")
    model = Model(str(library), str(package))
    voxels = make_volume(extent)
    return lambda: model.segment(voxels, np.eye(4))


def network_alone(package: Path, extent: int) -> Run:
    from segmaformer.runtime import Package
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    content = Package.open(package).read("fp32.onnx")
    session = open_network(content, threads=available_threads())
    tile = make_volume(extent)[None] / np.float32(100)
    name = session.get_inputs()[0].name
    labels = through_python(package, extent)()

    def run() -> np.ndarray:
        session.run(None, {name: tile})
        return labels

    return run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extent", type=int, default=128, help="voxels along each side")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.pipeline import ExportOptions, export_package

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder / "ct.pth", options.classes, options.extent, 1.0)
        checkpoint = load_checkpoint(folder / "ct.pth")
        package = export_package(checkpoint, folder / "ct.sgmf", ExportOptions()).path
        arguments = (package, options.extent)
        candidates = {
            NETWORK: (network_alone, arguments),
            "Python, Predictor.predict": (through_python, arguments),
            "C, sgmf_run": (through_c, arguments),
        }
        document = report(take_turns(candidates, options.rounds), NETWORK)
    print(table(document))
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
