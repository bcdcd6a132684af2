"""A service that segments scans that come over HTTP."""
