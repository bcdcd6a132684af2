"""The package: its schema, its seal, how it is read and written, and its card."""
