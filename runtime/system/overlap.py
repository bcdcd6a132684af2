"""Processing of scans one by one, with reading and writing beside the network.

While one scan is in the network, the next is read and preprocessed and the last is
written. An error ends its scan and no other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Case = TypeVar("Case")
Input = TypeVar("Input")
Product = TypeVar("Product")
Result = TypeVar("Result")


def run_overlapped(
    cases: Iterable[Case],
    *,
    prepare: Callable[[Case], Input],
    work: Callable[[Case, Input], Product],
    finish: Callable[[Case, Product], Result],
    errors: tuple[type[Exception], ...],
) -> Iterator[tuple[Case, Result | Exception]]:
    """Run every case through three stages.

    Parameters
    ----------
    cases
        Cases in the order in which their results are wanted; one is taken ahead.
    prepare
        First stage; runs on a thread of its own, one case ahead.
    work
        Second stage; runs on the calling thread.
    finish
        Third stage; runs on a thread of its own, one case behind.
    errors
        Errors that end a case; any other ends the run.

    Yields
    ------
    case, outcome
        The case, and the result of `finish` or the error, in the order of `cases`.
    """
    with ThreadPoolExecutor(1, "prepare") as ahead, ThreadPoolExecutor(1, "finish") as behind:

        def finished(case: Case, product: Future[Product]) -> Result:
            return finish(case, product.result())

        left = iter(cases)
        inputs = [(case, ahead.submit(prepare, case)) for case in itertools.islice(left, 1)]
        results: list[tuple[Case, Future[Result]]] = []
        while inputs:
            case, given = inputs.pop()
            given.exception()  # wait; a failure shows again when its result is taken
            inputs += [(other, ahead.submit(prepare, other)) for other in itertools.islice(left, 1)]
            product = _run_here(work, case, given)
            del given
            results.append((case, behind.submit(finished, case, product)))
            del product
            if len(results) > 1:
                first, result = results.pop(0)
                outcome = _outcome(result, errors)
                yield first, outcome
        for case, result in results:
            outcome = _outcome(result, errors)
            yield case, outcome


def _run_here(
    work: Callable[[Case, Input], Product], case: Case, given: Future[Input]
) -> Future[Product]:
    """Run `work` on this thread and keep its result or ordinary exception."""
    future: Future[Product] = Future()
    try:
        future.set_result(work(case, given.result()))
    except Exception as error:
        future.set_exception(error)
    return future


def _outcome(result: Future[Result], errors: tuple[type[Exception], ...]) -> Result | Exception:
    try:
        return result.result()
    except errors as error:
        return error
