"""Scores by which label maps and networks are compared, and the bounds they must keep."""
