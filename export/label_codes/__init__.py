"""Codes of labels: ready tables for public label sets, and a user's own file."""
