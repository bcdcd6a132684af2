"""Networks of the user's own: built from code that the user names, probed, and described."""
