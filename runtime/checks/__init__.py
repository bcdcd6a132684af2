"""Checks for problems and oddities of a scan."""
