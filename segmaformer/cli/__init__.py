"""The ``sgmf`` command."""

from segmaformer.cli.main import main

__all__ = ["main"]
