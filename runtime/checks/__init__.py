"""Checks that say what is wrong or odd about a scan."""
