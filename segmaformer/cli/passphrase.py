"""Passphrase of a private key: from the environment, or asked for."""

from __future__ import annotations

import os

import click

VARIABLE = "SGMF_KEY_PASSPHRASE"


def read_passphrase(*, is_new: bool) -> bytes:
    """Return the passphrase; a new one is asked for twice and may not be empty."""
    text = os.environ.get(VARIABLE)
    if text is None:
        text = click.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new, err=True)
    if is_new and not text:
        raise click.UsageError(f"{VARIABLE} is empty; a private key needs a passphrase")
    return text.encode()
