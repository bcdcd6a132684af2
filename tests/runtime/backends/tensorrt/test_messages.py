from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from support.stand_ins.gpu_fakes import FakeLogger, Severity

from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.errors import BackendError

NO_CUDA = "createInferRuntime: CUDA initialization failure with error: 35"


class Unusable:
    """Result of TensorRT 11.4 where CUDA does not start."""

    freed = 0

    def __del__(self) -> None:
        Unusable.freed += 1


def module(make: Any, *said: str) -> Any:
    """Make a module whose Runtime logs a message and is the result of `make`."""

    def runtime(logger: FakeLogger) -> Any:
        for text in said:
            logger.log(Severity.ERROR, text)
        return make()

    names = {"__name__": "tensorrt", "__version__": "11.4.0.106", "ILogger": FakeLogger}
    return SimpleNamespace(Runtime=runtime, **names)


def null_pointer() -> None:
    raise TypeError("factory function returned nullptr")


@pytest.mark.parametrize(
    ("make", "said", "reason"),
    [
        (null_pointer, (), "it gave no reason (factory function returned nullptr)"),
        (null_pointer, (NO_CUDA,), f"{NO_CUDA} (factory function returned nullptr)"),
        (Unusable, ("other", NO_CUDA), f"other; {NO_CUDA}"),
    ],
)
def test_what_does_not_start_says_why(make: Any, said: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BackendError) as error:
        Messages(module(make, *said)).start("Runtime")
    assert str(error.value).startswith(f"tensorrt 11.4.0.106 cannot start here: {reason}. Its CUDA")


def test_what_nothing_may_touch_is_not_freed() -> None:
    before = Unusable.freed
    with pytest.raises(BackendError):
        Messages(module(Unusable, NO_CUDA)).start("Runtime")
    assert Unusable.freed == before


def test_other_errors_leave_what_was_made() -> None:
    made = object()
    assert Messages(module(lambda: made, "a harmless one")).start("Runtime") is made


REAL = """
import tensorrt_lean_bindings as trt
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.errors import BackendError
try:
    Messages(trt).start("Runtime")
except BackendError as error:
    print(error)
"""


def test_a_real_tensorrt_without_a_driver_does_not_end_the_process() -> None:
    pytest.importorskip("tensorrt_lean_bindings")
    result = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cannot start here: " in result.stdout or not result.stdout  # or there is a GPU
