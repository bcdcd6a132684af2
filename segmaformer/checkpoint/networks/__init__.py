"""Configuration and valid tiles of each network, read from its weights."""
