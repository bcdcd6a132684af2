"""Comparison of exported graphs with PyTorch, which decides whether a package appears."""
