"""Model of Triton's Python backend that segments volumes with a package."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

# Triton's Python backend puts this module on the path of the processes that it starts.
import triton_python_backend_utils as triton

from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.errors import CancelledError, InputError, SgmfError
from segmaformer.triton.repository import AFFINE, IMAGE, LABELS, PACKAGE_FOLDER


class TritonPythonModel:
    """Predictor of the package that lies in the model's version folder.

    Triton makes one object for each instance, in a process of its own, and calls these methods.
    The parameters ``backend``, ``variant``, ``threads`` and ``memory_budget_mib`` of the model's
    configuration are those of :class:`segmaformer.runtime.Predictor`; an empty text is the default.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Open the package.

        Parameters
        ----------
        args
            Triton's description of the model and of this instance.
        """
        on_gpu = args["model_instance_kind"] == "GPU"
        if on_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = args["model_instance_device_id"]
        given = json.loads(args["model_config"]).get("parameters", {})
        chosen = {name: value["string_value"] for name, value in given.items()}
        threads, budget = chosen.get("threads"), chosen.get("memory_budget_mib")
        self._predictor = Predictor(
            Package.open(Path(args["model_repository"]) / args["model_version"] / PACKAGE_FOLDER),
            chosen.get("backend") or "auto",
            variant=chosen.get("variant") or None,
            memory_budget_mib=int(budget) if budget else None,
            options=BackendOptions(
                threads=int(threads) if threads else None, device="cuda" if on_gpu else "cpu"
            ),
            report=triton.Logger.log_warn,
        )
        triton.Logger.log_info(f"{args['model_name']}: {self._predictor.backend}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Segment the volume of each request; a refused one does not affect the others."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the network."""
        self._predictor.close()

    def _answer(self, request: Any) -> Any:
        cancel = threading.Event()

        def look(*_progress: object) -> None:
            if request.is_cancelled():
                cancel.set()

        try:
            volume = Volume(_input(request, IMAGE), _input(request, AFFINE))
            labels = self._predictor.predict(volume, progress=look, cancel=cancel).labels
        except CancelledError as error:
            return _failure(error, triton.TritonError.CANCELLED)
        except (InputError, ValueError) as error:
            return _failure(error, triton.TritonError.INVALID_ARG)
        except SgmfError as error:
            return _failure(error, triton.TritonError.INTERNAL)
        answer = triton.Tensor.from_dlpack(LABELS, np.ascontiguousarray(labels))
        return triton.InferenceResponse(output_tensors=[answer])


def _input(request: Any, name: str) -> np.ndarray:
    # Not as_numpy: with NumPy 2, Triton 2.51 gives arrays in which all values are the first one.
    return np.from_dlpack(triton.get_input_tensor_by_name(request, name))


def _failure(error: Exception, code: Any) -> Any:
    return triton.InferenceResponse(error=triton.TritonError(str(error), code))
