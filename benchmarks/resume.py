"""Time until a batch resumes whose scans are done: made names and records, which nothing computed.

``python benchmarks/resume.py PACKAGE --cases 100000 -o FOLDER --out results/resume.json`` makes the
cases once and runs ``sgmf infer --resume`` on them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
from turns import machine

SCANS_A_FILE = 10_000
"""A file system allows so many links to one file."""


def make_cases(folder: Path, package: Path, count: int) -> None:
    """Write one scan and its results with the command, and give all cases links to them."""
    voxels = np.random.default_rng(0).standard_normal((24, 24, 24)).astype(np.float32)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    scans, labels, first = (folder / name for name in ("scans", "labels", "first"))
    for path in (scans, labels, first):
        path.mkdir(parents=True)
    for index in range(count):
        name = f"case{index:06}"
        if index % SCANS_A_FILE == 0:
            scan = first / f"{name}.nii.gz"
            nibabel.save(image, scan)
            infer(package, scan, first)
            record = json.loads((first / f"{name}_seg.run.json").read_bytes())
        os.link(scan, scans / f"{name}.nii.gz")
        os.link(scan.with_name(scan.name.replace(".", "_seg.", 1)), labels / f"{name}_seg.nii.gz")
        record["scan"][0]["name"] = f"{name}.nii.gz"
        (labels / f"{name}_seg.run.json").write_text(json.dumps(record, indent=2))


def infer(package: Path, scans: Path, output: Path, *options: str) -> None:
    command = ["infer", str(scans), "-m", str(package), "-o", str(output), *options]
    subprocess.run([sys.executable, "-m", "segmaformer", *command], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not given.output.exists():
        make_cases(given.output, given.package, given.cases)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    infer(given.package, given.output / "scans", given.output / "labels", "--resume")
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    results = {
        "cases": given.cases,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
    }
    print(json.dumps(results))
    if given.out:
        date = datetime.date.today().isoformat()
        document = {"date": date, "machine": machine(), "results": results}
        given.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
