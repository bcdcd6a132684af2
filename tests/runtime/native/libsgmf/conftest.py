"""Fixtures: packages that the tests of libsgmf open."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.packages.small_packages import (
    write_cascade_package,
    write_ct_package,
    write_region_package,
)


@pytest.fixture(scope="session")
def ct_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct_package(tmp_path_factory.mktemp("ct") / "ct.sgmf")


@pytest.fixture(scope="session")
def region_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_region_package(tmp_path_factory.mktemp("regions") / "regions.sgmf")


@pytest.fixture(scope="session")
def cascade_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cascade_package(tmp_path_factory.mktemp("cascade") / "cascade.sgmf")
