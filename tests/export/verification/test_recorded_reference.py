from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmaformer.export.verification.recorded_reference import (
    compare_recorded,
    read_recorded,
)
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Label, Output
from segmaformer.runtime.system.digest import sha256_of

OUTPUT = Output((Label(0, "background"), Label(1, "a")))
TILE, LOGITS = (1, 4, 5, 6), (2, 4, 5, 6)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "input": rng.normal(size=TILE).astype(np.float32),
        "logits": rng.normal(size=LOGITS).astype(np.float32),
    }


def saved(folder: Path, **changed: object) -> Path:
    path = folder / "reference.npz"
    kept = {name: value for name, value in {**arrays(), **changed}.items() if value is not None}
    np.savez_compressed(path, **kept)  # type: ignore[arg-type]
    return path


def test_a_recorded_tile_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, logits=arrays()["logits"].astype(np.float64))
    recorded = read_recorded(path, TILE, LOGITS)
    np.testing.assert_array_equal(recorded.tile, arrays()["input"])
    np.testing.assert_array_equal(recorded.logits, arrays()["logits"])
    assert recorded.logits.dtype == np.float32
    assert recorded.sha256 == sha256_of(path)
    np.testing.assert_array_equal(
        read_recorded(path, TILE, LOGITS, (1, 0)).logits, arrays()["logits"][::-1]
    )


def with_nan() -> np.ndarray:
    logits = arrays()["logits"]
    logits[1, 2, 3, 4] = np.nan
    return logits


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input": arrays()["input"][None]}, r"input has shape \(1, 1, 4, 5, 6\)"),
        ({"logits": arrays()["logits"].argmax(0)}, r"expected shape \(2, 4, 5, 6\)"),
        ({"logits": arrays()["logits"].astype(int)}, "type int64"),
        ({"logits": None}, "expected \\['input', 'logits'\\]"),
        ({"more": np.zeros(1)}, "it holds"),
        ({"logits": with_nan()}, "logits of reference.npz holds numbers that are NaN"),
    ],
)
def test_other_files_are_refused(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_recorded(saved(tmp_path, **changed), TILE, LOGITS)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="Write it with numpy"):
        read_recorded(tmp_path / "reference.npz", TILE, LOGITS)


def test_nothing_recorded_is_nothing_compared() -> None:
    assert compare_recorded([], lambda tile: pytest.fail("run"), OUTPUT) is None


@pytest.mark.parametrize(("off", "complaints"), [(0, 0), (5e-4, 0), (2e-3, 1), (1, 2)])
def test_the_bounds(off: float, complaints: int, tmp_path: Path) -> None:
    logits = arrays()["logits"]
    logits[:, 0, 0, 0] = (2, -2)  # far from a change of the label
    recorded = read_recorded(saved(tmp_path, logits=logits), TILE, LOGITS)
    found = logits.copy()
    found[0, 0, 0, 0] -= off * np.ptp(logits)
    check = compare_recorded([recorded], lambda tile: found, OUTPUT)
    assert check is not None
    assert len(check.shortcomings()) >= complaints
    assert (check.shortcomings() == []) is (complaints == 0)
    assert check.record() == {
        "recorded_tiles": 1,
        "recorded_error": pytest.approx(off, rel=1e-3),
        "recorded_bound": 1e-3,
        "recorded_agreement": check.parity.agreement,
        "recorded_sha256": [recorded.sha256],
    }
