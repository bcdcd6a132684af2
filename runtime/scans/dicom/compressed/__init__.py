"""Compressed images: their places in a file, and their decoding by other processes."""
