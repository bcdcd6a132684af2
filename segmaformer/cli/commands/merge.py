"""``sgmf merge``: join the summaries of a batch's parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import print_failures, print_json, print_path
from segmaformer.cli.parameters import EXISTING_FILE, json_option
from segmaformer.cli.summary import batch_exit_code, write_summary


@click.command("merge")
@click.argument("summaries", nargs=-1, required=True, type=EXISTING_FILE)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write the whole summary to.",
)
@json_option
def command(summaries: tuple[Path, ...], output: Path | None, as_json: bool) -> int:
    """Join SUMMARIES of `sgmf infer`: summary files of --shard, and lines of --ndjson.

    A scan that several of them hold counts once: done before skipped, skipped before failed. The
    exit code is that of one batch over all scans: 3 if a scan was refused.
    """
    models: dict[str, None] = {}
    best: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in summaries:
        document = _read(path)
        models.update(dict.fromkeys(document.get("models", [])))
        for result in document["results"]:
            scan = tuple(result["scan"])
            best[scan] = min(best.get(scan, result), result, key=_rank)
    if len(models) > 1:
        raise click.UsageError(
            f"the summaries are of several packages: {', '.join(models)}; merge those of one"
        )
    results = [best[scan] for scan in sorted(best)]
    summary = {"model": next(iter(models), ""), "results": results}
    if output is not None:
        write_summary(output, summary)
    if as_json:
        print_json(summary)
    elif output is not None:
        print_path(output)
    print_failures(results)
    return batch_exit_code(results)


def _read(path: Path) -> dict[str, Any]:
    """Read a summary, or lines of results, and check what is used here."""
    text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError:
        found = {"results": [*_lines(path, text)]}
    if isinstance(found, dict) and "scan" in found:
        found = {"results": [found]}
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, list) or not all(map(_is_result, results)):
        raise click.UsageError(f"{path} is no summary of `sgmf infer`; expected JSON with results")
    model = found.get("model")
    return {"results": results, "models": [model] if isinstance(model, str) else []}


def _lines(path: Path, text: str) -> Iterable[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError:
            raise click.UsageError(f"line {number} of {path} is no JSON") from None


def _is_result(result: Any) -> bool:
    return (
        isinstance(result, dict)
        and isinstance(result.get("scan"), list)
        and all(isinstance(path, str) for path in result["scan"])
        and (result.get("skipped") is True or isinstance(result.get("exit_code"), int))
    )


def _rank(result: dict[str, Any]) -> int:
    return 2 if "error" in result else int(result.get("skipped", False))
