"""The service's page: it sends a scan, and shows the report that comes back in a frame."""

from __future__ import annotations

import functools
from importlib import resources

from segmaformer.runtime.results.report import allowed_sources, content_hashes


@functools.cache
def page() -> tuple[str, str]:
    """Return the page and its content security policy.

    A report in the frame is bound by the page's policy and by its own, so the page allows the
    style and the script of reports as well.
    """
    style, script = _file("style.css"), _file("service.js")
    own, reports = content_hashes(style, script), allowed_sources()
    policy = (
        f"default-src 'none'; style-src {own[0]} {reports[0]}; script-src {own[1]} {reports[1]}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    text = _file("page.html").replace("{{style}}", style).replace("{{script}}", script)
    return text, policy


def _file(name: str) -> str:
    folder = resources.files("segmaformer.runtime.service") / "page"
    return (folder / name).read_text(encoding="utf-8")
