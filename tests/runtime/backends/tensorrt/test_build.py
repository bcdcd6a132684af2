from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.stand_ins.builder_fakes import (
    FakeBuildingTensorRt,
    NetworkDefinitionCreationFlag,
    two_labels,
)
from support.stand_ins.gpu_fakes import FakeDriver

from segmaformer.runtime.backends.tensorrt.build import build_engine
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.errors import BackendError

TILE = (1, 8, 8, 8)


def fake(**options: Any) -> FakeBuildingTensorRt:
    return FakeBuildingTensorRt(FakeDriver(), TILE, (2, *TILE[1:]), two_labels, **options)


def build(trt: Any, **options: Any) -> Any:
    return build_engine(trt, b"network", Messages(trt), **{"batch": 4, **options})


def test_the_build_is_strongly_typed_without_rounded_products() -> None:
    trt = fake()
    assert build(trt).engine == b"engine for 4"
    assert trt.seen["flags"] == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert trt.seen["cleared"].name == "TF32"
    assert trt.seen["network"] == b"network"


def test_a_version_without_flags_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 11 types strongly whatever it is asked."""
    trt = fake()
    trt.NetworkDefinitionCreationFlag = object  # type: ignore[assignment, misc]
    trt.BuilderFlag = object  # type: ignore[assignment, misc]
    build(trt)
    assert trt.seen["flags"] == 0
    assert "cleared" not in trt.seen


@pytest.mark.parametrize("batch", [1, 4])
def test_one_tile_is_the_least_and_the_batch_the_best_and_most(batch: int) -> None:
    trt = fake()
    build(trt, batch=batch)
    assert trt.seen["profile"] == {"tiles": ((1, *TILE), (batch, *TILE), (batch, *TILE))}


def test_a_network_for_one_tile_is_built_for_one_tile() -> None:
    trt = fake(network_batch=1)
    build(trt, batch=1)
    assert trt.seen["profile"] == {"tiles": ((1, *TILE),) * 3}
    with pytest.raises(BackendError, match=r"exactly 1 tile at a time.* --batch is 4, expected 1"):
        build(trt, batch=4)


def test_the_timings_of_an_earlier_build_are_used_and_come_back() -> None:
    trt = fake()
    assert build(trt, timing_cache=b"tactics").timing_cache == b"tactics+"
    assert trt.seen["timing_cache"] == b"tactics"


def test_progress_is_that_of_the_outermost_phase() -> None:
    steps: list[tuple[int, int]] = []
    build(fake(), progress=lambda done, count: steps.append((done, count)))
    assert steps == [(0, 2), (1, 2), (2, 2), (2, 2)]


def test_the_builders_words_are_kept() -> None:
    trt = fake()
    messages = Messages(trt)
    build_engine(trt, b"network", messages, batch=1)
    assert messages.text() == "INFO: building\n"


def test_a_builder_that_does_not_start_says_why() -> None:
    trt = fake()

    def fail(logger: Any) -> None:
        raise TypeError("factory function returned nullptr")

    trt.Builder = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(BackendError, match=r"cannot start here: it gave no reason .*nullptr"):
        build(trt)


def test_a_network_that_cannot_be_parsed_says_why() -> None:
    with pytest.raises(BackendError, match=r"tensorrt 10\.3\.0 cannot read .*unsupported operator"):
        build(fake(parses=False))


def test_a_network_that_cannot_be_built_says_why() -> None:
    with pytest.raises(BackendError, match="built no engine: no implementation for node 3"):
        build(fake(builds=False))


def convolution(batch: int | str) -> Any:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, channels, 8, 8, 8])
        for name, channels in (("tiles", 1), ("logits", 2))
    ]
    weights = numpy_helper.from_array(np.ones((2, 1, 3, 3, 3), np.float32), "weights")
    node = helper.make_node("Conv", ["tiles", "weights"], ["logits"], pads=[1] * 6)
    graph = helper.make_graph([node], "network", info[:1], info[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_a_real_builder_takes_a_network_for_one_tile() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    content = convolution(1).SerializeToString()
    assert len(build_engine(trt, content, Messages(trt), batch=1).engine) > 1000
    with pytest.raises(BackendError, match="exactly 1 tile at a time"):
        build_engine(trt, content, Messages(trt), batch=2)


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_a_real_builder_takes_every_call() -> None:
    """TensorRT-RTX has TensorRT's interface and builds without a GPU."""
    trt = pytest.importorskip("tensorrt_rtx")
    model = convolution("batch")
    steps: list[tuple[int, int]] = []
    messages = Messages(trt)
    built = build_engine(
        trt,
        model.SerializeToString(),
        messages,
        batch=2,
        progress=lambda done, count: steps.append((done, count)),
    )
    assert len(built.engine) > 1000
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1] > 1
    assert "INFO: " in messages.text()
    again = build_engine(
        trt, model.SerializeToString(), messages, batch=2, timing_cache=built.timing_cache
    )
    assert len(again.engine) > 1000
    with pytest.raises(BackendError):
        build_engine(trt, b"no network", messages, batch=2)
