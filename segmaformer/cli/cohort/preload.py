"""Imports of a worker, made once for all that are forked from the process that did."""

from segmaformer.cli.imports import without

with without("pydicom"):
    import segmaformer.cli.cohort.worker  # noqa: F401
