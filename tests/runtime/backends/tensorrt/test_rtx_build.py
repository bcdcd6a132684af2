from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segmaformer.runtime.backends.tensorrt import rtx_build as tensorrt_rtx_build
from segmaformer.runtime.backends.tensorrt.rtx_build import TARGETS, build_rtx_engine
from segmaformer.runtime.errors import BackendError, MissingExtraError

TILE = (4, 4, 4)


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    pytest.importorskip("onnx")


def network(operator: str = "Relu", domain: str = "", batch: int | str = "batch") -> bytes:
    from onnx import TensorProto, helper

    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 1, *TILE])
        for name in ("tiles", "logits")
    ]
    nodes = [helper.make_node(operator, ["tiles"], ["logits"], domain=domain)]
    graph = helper.make_graph(nodes, "network", info[:1], info[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("segmaformer", 1)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=10
    ).SerializeToString()
    return content


@pytest.mark.usefixtures("rtx")
def test_an_engine_is_built_without_a_gpu() -> None:
    import tensorrt_rtx

    steps: list[tuple[int, int]] = []
    logs: list[str] = []
    engine = build_rtx_engine(
        network(),
        "sm86",
        batch=2,
        progress=lambda done, count: steps.append((done, count)),
        keep_log=logs.append,
    )
    assert len(engine.content) > 1000
    assert (engine.builder_version, engine.target, engine.batch) == (
        tensorrt_rtx.__version__,
        "sm86",
        2,
    )
    assert engine.seconds > 0
    assert engine.build_peak_mib > 10
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]
    assert "Engine generation completed" in logs[0]


@pytest.mark.usefixtures("rtx")
def test_every_target_has_its_name_in_tensorrt_rtx() -> None:
    import tensorrt_rtx

    assert {target.upper() for target in TARGETS} <= set(tensorrt_rtx.ComputeCapability.__members__)


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("operator", "domain"), [("SelectiveScan", "segmaformer"), ("NoSuchOperator", "")]
)
def test_an_operator_that_it_does_not_know_is_an_error(operator: str, domain: str) -> None:
    logs: list[str] = []
    with pytest.raises(BackendError, match="cannot read the network"):
        build_rtx_engine(network(operator, domain), "sm86", keep_log=logs.append)
    assert "ERROR" in logs[0]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a shell script take the builder's place."""
    if sys.platform == "win32":
        pytest.skip("needs a shell")

    def use(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))
        monkeypatch.setattr(tensorrt_rtx_build, "MODULE", "json")  # installed everywhere

    return use


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo terminate called >&2; kill -ABRT $$", "SIGABRT: terminate called"),
        ("kill -KILL $$", "SIGKILL: it printed nothing.*too little memory"),
        ("echo 'no module' >&2; exit 3", "code 3: no module"),
        ("""echo '{"error": "no tactic for node 3"}'; exit 1""", "no tactic for node 3"),
    ],
)
def test_an_end_of_the_builder_is_an_error(
    stand_in: Callable[[str], None], script: str, words: str
) -> None:
    stand_in(script)
    with pytest.raises(BackendError, match=words):
        build_rtx_engine(b"", "sm86")


def test_the_builder_ends_with_the_one_who_watches_it(
    stand_in: Callable[[str], None], tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    stand_in(f"""echo '{{"done": 0, "steps": 6}}'; sleep 2; touch {alive}""")

    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_rtx_engine(b"", "sm86", progress=interrupt)
    assert not alive.exists()


@pytest.mark.parametrize("target", ["sm87", "sm90", "86", "", "current"])
def test_unknown_targets_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"no target .* expected one of sm75, sm80"):
        build_rtx_engine(b"", target)


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        build_rtx_engine(b"", "sm86", batch=0)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_rtx_build, "MODULE", "tensorrt_rtx_not_here")
    with pytest.raises(MissingExtraError, match=r"segmaformer\[rtx\]"):
        build_rtx_engine(b"", "sm86")
    with pytest.raises(MissingExtraError, match=r"segmaformer\[rtx\]"):
        tensorrt_rtx_build.import_tensorrt_rtx()
