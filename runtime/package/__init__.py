"""Packages: their schema, seal, reader, writer and card."""
