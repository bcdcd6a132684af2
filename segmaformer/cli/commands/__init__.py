"""Commands of ``sgmf``, one in each module."""
