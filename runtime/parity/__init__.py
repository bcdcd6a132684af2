"""Comparisons of a network with the results of its reference."""
