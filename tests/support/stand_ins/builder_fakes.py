# ruff: noqa: N802  (the names are TensorRT's)
"""Stand-in for TensorRT's builder that needs no GPU."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from support.stand_ins.gpu_fakes import FakeLogger, FakeTensorRt, Severity


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


class BuilderFlag(enum.IntEnum):
    DEBUG, TF32 = range(2)


class FakeMonitor:
    """Base of progress monitors; an instance must call the constructor, as pybind11 demands."""

    def __init__(self) -> None:
        self.constructed = True


@dataclass
class FakeBuildingTensorRt(FakeTensorRt):
    """Make a module that builds: every network becomes ``engine for BATCH``.

    Attributes
    ----------
    engine
        What an engine begins with; two builds need not give the same.
    parses, builds
        Whether parsing and building succeed.
    network_batch
        Batch of every network that is parsed; -1 is free.
    seen
        What the builder was asked for, last.
    """

    engine: str = "engine"
    parses: bool = True
    builds: bool = True
    network_batch: int = -1
    seen: dict[str, Any] = field(default_factory=dict)

    NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    BuilderFlag = BuilderFlag
    IProgressMonitor = FakeMonitor

    def Builder(self, logger: FakeLogger) -> SimpleNamespace:
        def create_network(flags: int) -> SimpleNamespace:
            self.seen["flags"] = flags
            tensor = SimpleNamespace(name="tiles", shape=(self.network_batch, *self.tile_shape))
            return SimpleNamespace(num_inputs=1, get_input=lambda _: tensor)

        def build(network: Any, config: Any) -> bytes | None:
            logger.log(Severity.INFO, "building")
            if not self.builds:
                logger.log(Severity.ERROR, "no implementation for node 3")
                return None
            _advance(config.progress_monitor)
            self.batch = config.profile["tiles"][2][0]
            return f"{self.engine} for {self.batch}".encode()

        return SimpleNamespace(
            create_network=create_network,
            create_builder_config=lambda: FakeConfig(self.seen),
            create_optimization_profile=FakeProfile,
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, logger: FakeLogger) -> SimpleNamespace:
        def parse(content: bytes) -> bool:
            self.seen["network"] = content
            return self.parses

        error = SimpleNamespace(desc=lambda: "unsupported operator")
        return SimpleNamespace(
            parse=parse, num_errors=0 if self.parses else 1, get_error=lambda _: error
        )


class FakeProfile(dict[str, Any]):
    """Shapes by the name of an input."""

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self[name] = shapes


class FakeConfig:
    """Configuration of a builder."""

    def __init__(self, seen: dict[str, Any]):
        self.profile: FakeProfile = FakeProfile()
        self.progress_monitor: Any = None
        self._seen = seen

    def add_optimization_profile(self, profile: FakeProfile) -> None:
        self._seen["profile"] = self.profile = profile

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._seen["cleared"] = flag

    def create_timing_cache(self, content: bytes) -> bytes:
        self._seen["timing_cache"] = content
        return content + b"+"

    def set_timing_cache(self, cache: bytes, *, ignore_mismatch: bool) -> None:
        self._cache = cache

    def get_timing_cache(self) -> SimpleNamespace:
        return SimpleNamespace(serialize=lambda: self._cache)


def _advance(monitor: Any) -> None:
    """Report as a builder does: one phase around others."""
    if monitor is None:
        return
    assert monitor.constructed
    monitor.phase_start("Building", None, 2)
    monitor.phase_start("Timing", "Building", 50)
    assert monitor.step_complete("Timing", 0)
    monitor.phase_finish("Timing")
    assert monitor.step_complete("Building", 0)
    assert monitor.step_complete("Building", 1)
    monitor.phase_finish("Building")


def two_labels(tiles: np.ndarray) -> np.ndarray:
    """Compute logits of background and of everything brighter than 0."""
    return np.concatenate([np.zeros_like(tiles), tiles], axis=1)
