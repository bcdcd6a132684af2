from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.inputs import check_channels, check_multiple, check_per_stage

extents = st.tuples(*[st.integers(0, 40)] * 3)
factors = st.tuples(*[st.integers(1, 16)] * 3)


def refusal(check: Callable[[], None]) -> str | None:
    try:
        check()
    except ValueError as error:
        return str(error)
    return None


def on_meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


@given(times=st.tuples(*[st.integers(1, 5)] * 3), factors=factors)
def test_multiples_are_taken(times: tuple[int, ...], factors: tuple[int, int, int]) -> None:
    check_multiple(on_meta(1, 1, *(n * f for n, f in zip(times, factors, strict=True))), factors)


@given(extents=extents, factors=factors)
def test_only_multiples_above_zero_are_taken(
    extents: tuple[int, int, int], factors: tuple[int, int, int]
) -> None:
    fits = all(n > 0 and n % f == 0 for n, f in zip(extents, factors, strict=True))
    words = f"input has {extents} voxels; depth, height and width must be multiples of {factors}"
    found = refusal(lambda: check_multiple(on_meta(1, 1, *extents), factors))
    assert found == (None if fits else words)


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=6), channels=st.integers(1, 4))
def test_only_batches_of_volumes_are_taken(shape: list[int], channels: int) -> None:
    fits = len(shape) == 5 and shape[1] == channels
    words = f"input has shape {tuple(shape)}; expected (B, {channels}, D, H, W)"
    assert refusal(lambda: check_channels(on_meta(*shape), channels)) == (None if fits else words)


@given(entries=st.none() | st.lists(st.integers(), max_size=6), stages=st.integers(1, 6))
def test_a_list_has_an_entry_for_each_stage(entries: list[int] | None, stages: int) -> None:
    config = {"depths": [1] * stages, "widths": entries}
    length = len(entries or ())
    if length == stages:
        check_per_stage(config, ("depths", "widths"), stages, "Net")
        return
    with pytest.raises(ValueError, match=f"^widths has {length} entries; Net has {stages} stages"):
        check_per_stage(config, ("depths", "widths"), stages, "Net")
