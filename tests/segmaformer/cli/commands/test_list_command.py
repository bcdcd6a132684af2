from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from segmaformer.models import list_models, list_presets

Sgmf = Callable[..., Any]


def test_every_network_is_listed_with_its_presets(sgmf: Sgmf) -> None:
    run = sgmf("list")
    assert run.code == 0
    assert [line.split()[0] for line in run.stdout.splitlines()] == list_models()
    assert "bctv_fixed" in run.stdout


def test_json(sgmf: Sgmf) -> None:
    networks = json.loads(sgmf("list", "--json").stdout)["networks"]
    assert networks["segmaformer"] == list_presets("segmaformer")
