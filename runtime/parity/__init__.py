"""Comparisons of a network with what its reference computed."""
