"""Scans of exported graphs: those that are wrong are found, even where PyTorch is as wrong."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from segmaformer.export.function_body import ScanSignature, selective_scan_function
from segmaformer.export.onnx_export import export_onnx
from segmaformer.export.scan_op import scan_nodes
from segmaformer.export.verification.scan_check import ScanCheck, check_scans
from segmaformer.export.verification.scan_samples import (
    SAMPLED_CHANNELS,
    SampledScan,
    recorded_scans,
    scans_of_graph,
)
from segmaformer.ops import selective_scan

TILE = (4, 6, 8)


class TwoWays(torch.nn.Module):
    """Network of a scan in each direction, with little to tell one from the other."""

    def __init__(self, channels: int = 9, states: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.streams = torch.nn.Linear(1, 3 * channels + 2 * states)
        self.sizes = (channels, channels, channels, states, states)
        self.register_buffer("A", -torch.rand(channels, states) - 0.1)
        self.register_buffer("D", torch.rand(channels))
        self.register_buffer("bias", torch.randn(channels))

    def forward(self, tiles: Any) -> Any:
        tokens = self.streams(tiles.flatten(2).transpose(1, 2).sin())
        u, delta, z, b, c = tokens.split(self.sizes, -1)
        y = sum(
            selective_scan(
                u, delta, self.A, b, c, self.D, z, self.bias, delta_softplus=True, reverse=reverse
            )
            for reverse in (False, True)
        )
        return y[..., :2].transpose(1, 2).unflatten(2, tiles.shape[2:])


@dataclasses.dataclass(frozen=True)
class Exported:
    """A graph, a tile, and the scans of PyTorch on it."""

    graph: onnx.ModelProto
    tile: np.ndarray
    in_pytorch: list[SampledScan]

    def check(self, change: Callable[[Any], None] | None = None, **options: bool) -> ScanCheck:
        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        if change is not None:
            change(graph)
        content = graph.SerializeToString()
        return check_scans(scans_of_graph(content, self.tile, **options), self.in_pytorch)


@pytest.fixture(scope="module")
def exported() -> Exported:
    network = TwoWays().eval()
    tile = np.random.default_rng(0).normal(size=(1, *TILE)).astype(np.float32)
    calls: list[SampledScan] = []
    with torch.no_grad(), recorded_scans(calls):
        network(torch.from_numpy(tile[None]))
    return Exported(export_onnx(network, TILE, 1), tile, calls)


@pytest.mark.parametrize("op_library", [True, False])
def test_right_scans_pass(exported: Exported, op_library: bool) -> None:
    check = exported.check(op_library=op_library)
    assert check.refusals == []
    assert check.record() == {
        "scans": 2,
        "scan_error": pytest.approx(0, abs=1e-6),
        "scan_bound": 1e-5,
    }
    assert check.figures.startswith("2 selective scans within ")


def test_samples_are_channels_from_first_to_last(exported: Exported) -> None:
    first, _ = scans_of_graph(exported.graph.SerializeToString(), exported.tile)
    assert first.arrays["u"].shape == (1, 4 * 6 * 8, SAMPLED_CHANNELS)
    a = TwoWays().A.numpy()
    np.testing.assert_array_equal(first.arrays["A"], a[[0, 2, 5, 8]])


def lose_direction(graph: Any) -> None:
    for node in scan_nodes(graph):
        for attribute in node.attribute:
            if attribute.name == "reverse":
                attribute.i = 0


def lose_softplus(graph: Any) -> None:
    for attribute in scan_nodes(graph)[0].attribute:
        if attribute.name == "delta_softplus":
            attribute.i = 0


def swap(first: int, second: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        names = scan_nodes(graph)[1].input
        names[first], names[second] = names[second], names[first]

    return change


def lose_gate(graph: Any) -> None:
    scan_nodes(graph)[0].input[6] = ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lose_direction,
            "selective scan 2 of 2 .* none of PyTorch's: it differs in reverse, of scan 2",
        ),
        (lose_softplus, "scan 1 of 2 .* differs in delta_softplus, of scan 1"),
        (swap(3, 4), "scan 2 of 2 .* differs in B, C, of scan 2"),
        (swap(0, 6), "differs in u, z, of scan 2"),
        (lose_gate, "differs in z, of scan 1"),
    ],
)
def test_a_scan_that_lost_something_is_none_of_pytorchs(
    exported: Exported, change: Callable[[Any], None], message: str
) -> None:
    (refusal,) = exported.check(change).refusals
    assert re.search(message, refusal), refusal


def wrong_body(**fault: Any) -> Callable[[Any], None]:
    """Give the graph an operator that is wrong, as a faulty library would be."""

    def change(graph: Any) -> None:
        del graph.functions[:]
        graph.functions.append(selective_scan_function(ScanSignature(reverse=None, **fault)))

    return change


@pytest.mark.parametrize("fault", [{"has_d": False}, {"delta_softplus": False}, {"has_z": False}])
def test_a_wrong_operator_is_found_whatever_pytorch_says(
    exported: Exported, fault: dict[str, bool]
) -> None:
    check = exported.check(wrong_body(**fault), op_library=False)
    assert [
        line.startswith(f"selective scan {n} of 2") for n, line in enumerate(check.refusals, 1)
    ] == [
        True,
        True,
    ]
    assert "differs from its definition in float64 by" in check.refusals[0]


def test_pytorch_may_run_more_scans_and_not_fewer(exported: Exported) -> None:
    found = scans_of_graph(exported.graph.SerializeToString(), exported.tile)
    assert check_scans(found[1:], exported.in_pytorch).refusals == []
    (refusal,) = check_scans(found, exported.in_pytorch[:1]).refusals
    assert refusal.endswith("no selective scan is left there")


def test_one_scan_cannot_stand_for_two(exported: Exported) -> None:
    first, _ = scans_of_graph(exported.graph.SerializeToString(), exported.tile)
    (refusal,) = check_scans([first, first], exported.in_pytorch).refusals
    assert "it differs in reverse" in refusal


@pytest.mark.parametrize(("off", "passes"), [(1e-7, True), (1e-4, False), (np.nan, False)])
def test_the_bound(exported: Exported, off: float, passes: bool) -> None:
    first, _ = scans_of_graph(exported.graph.SerializeToString(), exported.tile)
    y = first.arrays["y"].copy()
    y[0, 7, 2] += off * np.ptp(y)
    check = check_scans(
        [dataclasses.replace(first, arrays={**first.arrays, "y": y})], exported.in_pytorch
    )
    assert (check.refusals == []) is passes


def test_a_long_memory_is_allowed_the_rounding_of_float32() -> None:
    length = 20_000
    rng = np.random.default_rng(0)
    arrays = {
        "u": rng.normal(size=(1, length, 1)).astype(np.float32) + np.float32(3),
        "delta": np.full((1, length, 1), 1e-4, np.float32),
        "A": np.full((1, 1), -1e-3, np.float32),
        "B": np.ones((1, length, 1), np.float32),
        "C": np.where(np.arange(length) % 2, 1, -1).astype(np.float32)[None, :, None],
    }
    y = selective_scan(**{k: torch.from_numpy(a) for k, a in arrays.items()}).numpy()
    scan = SampledScan("", {**arrays, "y": y}, delta_softplus=False, reverse=False)
    check = check_scans([scan], [scan.trace()])
    assert check.refusals == []


def test_only_the_first_wrong_scans_are_named() -> None:
    check = ScanCheck(5, refusals=[f"scan {n} is wrong" for n in range(5)])
    assert check.shortcomings() == [*check.refusals[:3], "and 2 more"]
    assert ScanCheck(1).shortcomings() == []
