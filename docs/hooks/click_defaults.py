"""Leave the default of an option empty where it has none.

click marks that with a sentinel, which mkdocs-click prints as it stands.
"""

from __future__ import annotations

from typing import Any

_NO_DEFAULT = "<code>Sentinel.UNSET</code>"


def on_page_content(html: str, **_: Any) -> str:
    """Take the sentinel out of the tables of options."""
    return html.replace(_NO_DEFAULT, "")
