"""Scores that compare label maps and networks, and the bounds they must keep."""
