from __future__ import annotations

import threading

import pytest

from segmaformer.runtime.system.overlap import run_overlapped


def run(cases, prepare=lambda c: c, work=lambda c, x: x, finish=lambda c, x: x):  # type: ignore[no-untyped-def]
    return list(
        run_overlapped(cases, prepare=prepare, work=work, finish=finish, errors=(ValueError,))
    )


def test_every_case_passes_the_stages_in_order() -> None:
    outcomes = run(
        [1, 2, 3],
        prepare=lambda case: case * 10,
        work=lambda case, given: given + case,
        finish=lambda case, product: f"{case}: {product}",
    )
    assert outcomes == [(1, "1: 11"), (2, "2: 22"), (3, "3: 33")]


def test_no_case() -> None:
    assert run([]) == []


@pytest.mark.parametrize("stage", ["prepare", "work", "finish"])
def test_an_error_ends_its_case_only(stage: str) -> None:
    def fail(case: int, *_: object) -> int:
        if case == 2:
            raise ValueError("two")
        return case

    outcomes = dict(run([1, 2, 3], **{stage: fail}))
    assert str(outcomes.pop(2)) == "two"
    assert outcomes == {1: 1, 3: 3}


def test_an_unexpected_error_ends_the_run() -> None:
    def fail(case: int, given: int) -> int:
        raise KeyError(case)

    with pytest.raises(KeyError):
        run([1, 2, 3], work=fail)


def test_the_next_case_is_prepared_and_the_last_finished_beside_the_work() -> None:
    meeting = {case: threading.Barrier(3, timeout=10) for case in (2, 3)}

    def prepare(case: int) -> int:
        if case > 2:
            meeting[case - 1].wait()
        return case

    def work(case: int, given: int) -> int:
        if case == 2:
            meeting[2].wait()
        return given

    def finish(case: int, product: int) -> int:
        if case == 1:
            meeting[2].wait()
        return product

    assert run([1, 2, 3], prepare, work, finish) == [(1, 1), (2, 2), (3, 3)]
