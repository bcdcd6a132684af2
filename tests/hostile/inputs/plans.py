"""Plans (``plans.json``) whose values no training has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile.hostile_input import REFUSED, TAKEN, HostileInput
from hostile.inputs.nifti import file_of
from support.networks.networks import tiny_plans

NAN, INF = float("nan"), float("inf")
FULL = "configurations/3d_fullres"

# Place, value and verdict.
CHANGES: list[tuple[str, Any, int]] = [
    ("plans_name", "\x1b[2J", TAKEN),
    *[("configurations", value, REFUSED) for value in (None, [], {}, "3d_fullres", 3)],
    *[(FULL, value, REFUSED) for value in (None, [], "x", {"inherits_from": "3d_fullres"})],
    *[
        (f"{FULL}/patch_size", value, REFUSED)
        for value in (
            None,
            [],
            "32,32,48",
            [32, 32],
            [32, 32, 48, 1],
            [32, 32, 0],
            [32, 32, -48],
            [32, 32, 48.5],
            [32, 32, NAN],
            [32, 32, True],
            [10**9, 10**9, 10**9],
            [10**9, 32, 48],
            [2048, 2048, 1024],
            [10**400, 1, 1],
            [1e9, 1e9, 1e9],
        )
    ],
    *[
        (f"{FULL}/spacing", value, REFUSED)
        for value in (None, [], [1, 1], [1, 1, 0], [1, 1, -1], [1, 1, NAN], [1, 1, INF], "1 1 1")
    ],
    *[
        (f"{FULL}/normalization_schemes", value, REFUSED)
        for value in (None, [], "ZScoreNormalization", ["Other"], [3], ["ZScoreNormalization"] * 9)
    ],
    (f"{FULL}/normalization_schemes", ["CTNormalization"], REFUSED),  # no intensities are there
    *[("image_reader_writer", value, REFUSED) for value in ("Other", 3, [], {"a": 1})],
    *[("transpose_forward", value, REFUSED) for value in ([], [0, 1], [0, 1, 1], [0, 1, 3], "012")],
]


def inputs() -> Iterator[HostileInput]:
    yield HostileInput("plain", file_of(json.dumps(tiny_plans()).encode(), NAME), _read, TAKEN)
    for place, value, verdict in CHANGES:
        plans = tiny_plans()
        *parents, last = place.split("/")
        target: Any = plans
        for parent in parents:
            target = target[parent]
        target[last] = value
        content = json.dumps(plans).encode()
        yield HostileInput(f"{place}: {value!r:.60}", file_of(content, NAME), _read, verdict)


NAME = "plans.json"


def _read(path: Path) -> None:
    from segmaformer.checkpoint.training.plans import (
        patch_size,
        preprocessing_of,
        resolve_configuration,
    )
    from segmaformer.checkpoint.training.readers import training_reader

    plans = json.loads(path.read_text(encoding="utf-8"))
    _, configuration = resolve_configuration(plans, None)
    preprocessing_of(plans, configuration, ("T1",), training_reader(plans))
    patch_size(configuration)
