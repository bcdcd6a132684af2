"""Choice of calibration data and placement of quantisation."""
