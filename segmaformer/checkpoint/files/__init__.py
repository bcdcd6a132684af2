"""Files of trained weights, read without running anything that they contain."""
