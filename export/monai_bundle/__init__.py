"""MONAI bundles: their network, and its use, from configurations that are read as data."""
