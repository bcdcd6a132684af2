"""The configuration and the tile of each network, read from its weights."""
