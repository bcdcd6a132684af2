"""Comparisons of a package with PyTorch, its own fp32 and label maps: ``sgmf verify``."""
