"""Choosing calibration data and the placement of quantisation."""
