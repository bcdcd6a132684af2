"""Batches of scans that several processes share."""
