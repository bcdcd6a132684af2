"""Choice of ``auto``: the best backend whose numbers on this machine agree with ONNX Runtime's.

A driver, a device and a library that are all there do not guarantee right numbers. So a backend
other than ONNX Runtime on the CPU is only used after its logits of a phantom tile, the same on
every machine, stay within the bounds that decided over the package, plus the error of ONNX Runtime
that the package records; see :mod:`segmaformer.runtime.parity.tile_parity`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from segmaformer.runtime.backends import Backend, timed_choice
from segmaformer.runtime.backends.session import BackendOptions, Session, run_checked
from segmaformer.runtime.engines.cache import EngineCache
from segmaformer.runtime.errors import BackendError, EngineError, SgmfError
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.stored_reference import reference_tile
from segmaformer.runtime.parity.tile_parity import TileParity, bound_elsewhere
from segmaformer.runtime.progress import Report

FAILURES = (SgmfError, OSError, RuntimeError)
"""Errors with which a candidate may fail: ours, the system's, and those of compiled packages."""


def open_best(
    package: Package,
    variant: str | None,
    options: BackendOptions,
    *,
    candidates: Sequence[Backend],
    open_reference: Callable[[], Session],
    report: Report,
) -> Session | None:
    """Open the first candidate that works, passes the self-test and is fast; None if none does.

    Parameters
    ----------
    package, variant, options
        See :func:`segmaformer.runtime.backends.open_session`.
    candidates
        Backends, best first.
    open_reference
        Opens the float32 network on the CPU; called only if there is something to test.
    report
        Called with a line for every candidate that is skipped, and the reason; being slower is
        none.
    """
    for backend in candidates:
        try:
            session = _open(
                backend, package, variant or backend.best_variant(package), options, open_reference
            )
        except FAILURES as error:
            report(f"auto passes over {backend.label}: {error}")
        else:
            if session is not None:
                return session
    return None


def _open(
    backend: Backend,
    package: Package,
    variant: str,
    options: BackendOptions,
    open_reference: Callable[[], Session],
) -> Session | None:
    """Open a backend; None if ONNX Runtime is faster, or that cannot be remembered."""
    missing = backend.missing()
    if missing is not None:
        raise BackendError(missing)
    memory = times = None
    if backend.identify is not None:
        memory = _memory()
        if memory is None:
            return None
        times = timed_choice.remembered(memory, backend.identify(package, variant, options))
        if times is not None and not times.is_faster:
            return None
    session = backend.open(package, variant, options)
    if not backend.tests_itself:
        exact = variant == EXACT_VARIANT
        reason = shortcoming(package, session, open_reference, exact=exact)
        if reason is not None:
            raise BackendError(reason)
    if memory is not None and times is None:
        times = timed_choice.measure(memory, package, session, open_reference())
        if not times.is_faster:
            return None
    return session


def shortcoming(
    package: Package, session: Session, open_reference: Callable[[], Session], *, exact: bool
) -> str | None:
    """Describe what is wrong with a session's numbers; None if nothing is.

    A passed test is remembered for sessions with an ``identity``, if there is a folder that nobody
    else can write.

    Parameters
    ----------
    package, session
        Package, and its opened session.
    open_reference
        Opens the float32 network on the CPU; called only if there is something to test.
    exact
        Whether the session computes in float32 rather than less.

    Raises
    ------
    BackendError
        One of the networks failed.
    EngineError
        The record of a passed test was altered.
    """
    cache = None if session.identity is None else _memory()
    note = f"{session.identity}.selftest"
    if cache is not None and cache.recall(note) is not None:
        return None
    parity = compare(package, session, open_reference())
    found = parity.shortcomings(exact=exact)
    if found:
        return f"its self-test failed: {'; '.join(found)}"
    if cache is not None:
        figures = parity.record(exact=exact)
        cache.remember(note, json.dumps(figures, indent=2).encode())
    return None


def _memory() -> EngineCache | None:
    try:
        return EngineCache()
    except (EngineError, OSError):
        return None  # so every test is run again


def compare(package: Package, session: Session, reference: Session) -> TileParity:
    """Compare two sessions on one phantom tile."""
    manifest = package.manifest
    tiles = reference_tile(manifest)
    parity = TileParity(
        manifest.output, reference="ONNX Runtime, CPU, fp32", bound=bound_elsewhere(manifest)
    )
    found, expected = (run_checked(each, tiles)[0] for each in (session, reference))
    parity.add(found, expected)
    return parity
