"""Compare what a Triton server answers with a label map: a part of scripts/check_triton.sh.

triton_client.py ADDRESS MODEL SCAN LABELS: MODEL is the model's folder in the repository.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nibabel
import numpy as np
from google.protobuf import text_format
from tritonclient import http
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

SECONDS_TO_START = 120


def wait_until_ready(client: http.InferenceServerClient, model: str) -> None:
    for _ in range(SECONDS_TO_START):
        try:
            if client.is_model_ready(model):
                return
        except (ConnectionError, InferenceServerException):
            pass
        time.sleep(1)
    raise SystemExit(f"{model} is not ready after {SECONDS_TO_START} s")


def segment(
    client: http.InferenceServerClient, model: str, voxels: np.ndarray, affine: np.ndarray
) -> np.ndarray:
    image = http.InferInput("image", voxels.shape, "FP32").set_data_from_numpy(voxels)
    place = http.InferInput("affine", affine.shape, "FP64").set_data_from_numpy(affine)
    return client.infer(model, [image, place]).as_numpy("labels")


def main() -> None:
    address, folder, scan_path, labels_path = sys.argv[1:]
    model = Path(folder).name
    configuration = (Path(folder) / "config.pbtxt").read_text()
    text_format.Parse(configuration, model_config_pb2.ModelConfig())
    client = http.InferenceServerClient(address, network_timeout=600, connection_timeout=600)
    wait_until_ready(client, model)
    scan = nibabel.load(scan_path)
    voxels = scan.get_fdata(dtype=np.float32)[None]
    began = time.monotonic()
    labels = segment(client, model, voxels, scan.affine)
    seconds = time.monotonic() - began
    expected = np.asarray(nibabel.load(labels_path).dataobj)
    if labels.dtype != expected.dtype or not np.array_equal(labels, expected):
        raise SystemExit(f"{np.count_nonzero(labels != expected)} labels differ")
    voxels[0, 0, 0, 0] = np.nan
    try:
        segment(client, model, voxels, scan.affine)
    except InferenceServerException as error:
        print("a voxel that is NaN:", error.message())
    else:
        raise SystemExit("a scan with NaN was segmented")
    segment(client, model, voxels[:, 1:], scan.affine)  # the server goes on after a refusal
    print(f"{labels.size} labels equal, {np.count_nonzero(labels)} not 0, {seconds:.1f} s")


if __name__ == "__main__":
    main()
