from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.networks.tile_logits import predict_logits

from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.errors import CancelledError
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.spec import Tiling
from segmaformer.runtime.system import interruption
from segmaformer.runtime.system.interruption import (
    check,
    ended_by,
    request,
    signals_deferred,
    terminable,
)

IMAGE = np.ones((1, 8, 8, 8), np.float32)
TILING = Tiling((4, 4, 4))


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    yield
    interruption._requested.clear()


@pytest.fixture
def endless() -> Any:
    """Make a network that would run for days."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto
    value = partial(helper.make_tensor_value_info, elem_type=number.FLOAT, shape=[1])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["again"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", number.INT64, []),
            helper.make_tensor_value_info("go_on", number.BOOL, []),
            value("before"),
        ],
        [helper.make_tensor_value_info("again", number.BOOL, []), value("after")],
    )
    turns = helper.make_tensor("turns", number.INT64, [], [1 << 60])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        "endless",
        [value("x")],
        [value("y")],
        [turns],
    )
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return open_network(model.SerializeToString(), threads=1)


def test_a_request_ends_a_run_of_onnx_runtime(endless: Any) -> None:
    threading.Timer(0.2, request).start()
    with pytest.raises(KeyboardInterrupt):
        run_network(endless, np.zeros(1, np.float32))


def test_a_cancel_ends_a_run_of_onnx_runtime_and_no_other(endless: Any) -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with ended_by(cancel), pytest.raises(CancelledError):
        run_network(endless, np.zeros(1, np.float32))
    check()


def test_what_was_asked_before_a_run_keeps_it_from_beginning() -> None:
    request()
    with pytest.raises(KeyboardInterrupt), terminable(lambda: None):
        pytest.fail("the block must not run")


def test_an_ended_run_that_came_to_its_end_all_the_same_gives_nothing() -> None:
    calls = []
    with pytest.raises(KeyboardInterrupt), terminable(lambda: calls.append(1)):
        request()
    assert calls == [1]
    assert not interruption._running


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_a_signal_in_a_callback_is_raised_after_the_native_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python's own handler would raise in the callback, where ctypes loses what is raised."""
    monkeypatch.setattr(signal, "getsignal", signal.getsignal)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    runs = []

    def run(tiles: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # bytecodes, between which a handler would be called
            runs.append(1)
        return tiles.copy()

    try:
        with pytest.raises(KeyboardInterrupt):
            predict_logits(IMAGE, TILING, TileNetwork(run), 1)
        assert len(runs) == 1000 * len(runs[::1000])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        check()  # the request went with what it raised
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_raises_nothing_lets_the_work_go_on() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        with signals_deferred(), signals_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            check()
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
