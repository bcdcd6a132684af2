"""Work around any network: from a volume to its labels."""
