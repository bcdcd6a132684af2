from __future__ import annotations

from typing import Any

import click
import pytest

from segmaformer.cli.parameters import parse_settings, parse_triple

CONTEXT = click.Context(click.Command("export"))
PATCH_SIZE = click.Option(["--patch-size"])


@pytest.mark.parametrize(
    ("text", "triple"), [(None, None), ("64,128,128", (64, 128, 128)), (" 1, 2 ,3", (1, 2, 3))]
)
def test_a_triple_is_three_integers(text: str | None, triple: tuple[int, ...] | None) -> None:
    assert parse_triple(CONTEXT, PATCH_SIZE, text) == triple


@pytest.mark.parametrize("text", ["", "64", "64,64", "1,2,3,4", "a,b,c", "1.5,2,3", "64x64x64"])
def test_what_is_no_triple_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not of the form D,H,W"):
        parse_triple(CONTEXT, PATCH_SIZE, text)


@pytest.mark.parametrize("text", ["0,1,1", "64,-64,64"])
def test_a_triple_must_be_positive(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be positive"):
        parse_triple(CONTEXT, PATCH_SIZE, text)


@pytest.mark.parametrize(
    ("settings", "parsed"),
    [
        ((), {}),
        (("use_rope=false",), {"use_rope": False}),
        (("num_heads=[1,2,4,6]", "rope_theta=1e4"), {"num_heads": [1, 2, 4, 6], "rope_theta": 1e4}),
        (('name="a=b"',), {"name": "a=b"}),
        (("trainer=null",), {"trainer": None}),
    ],
)
def test_settings_are_json(settings: tuple[str, ...], parsed: dict[str, Any]) -> None:
    assert parse_settings(settings) == parsed


@pytest.mark.parametrize("setting", ["use_rope", "use_rope=", "use_rope=no", "=1", "a=[1,", ""])
def test_what_is_no_setting_is_refused(setting: str) -> None:
    with pytest.raises(click.UsageError, match="expected KEY=VALUE with a JSON value"):
        parse_settings((setting,))


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(click.UsageError, match="--set a is given twice"):
        parse_settings(("a=1", "a=2"))
