"""Choice of a package's label codes from a ready table or a file.

Every code of a ready table is one that DICOM itself lists (PS3.16), with the meaning it has
there. Where DICOM lists only a broader concept, such as Rib for the fourth rib, the table has that.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from segmaformer.runtime.errors import InputError, PackageError
from segmaformer.runtime.package.codes import (
    LabelCodes,
    code_complaints,
    coded_names,
    parse_codes,
)
from segmaformer.runtime.progress import Report
from segmaformer.runtime.spec import Output

MOST_BYTES = 1024 * 1024
"""Largest size of a file of codes in bytes."""


def label_codes(source: str | None, output: Output, report: Report) -> dict[str, LabelCodes]:
    """Read codes by :func:`read_codes`, and report the labels without any; None reads none."""
    if source is None:
        return {}
    codes = read_codes(source, output)
    without = [name for name in coded_names(output) if name not in codes]
    if without:
        report(f"labels without a code: {', '.join(without)}")
    return codes


def ready_tables() -> list[str]:
    """List the names of the ready tables."""
    names = (place.name for place in resources.files("segmaformer.export.label_codes").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_codes(source: str, output: Output) -> dict[str, LabelCodes]:
    """Read the codes of a package's labels.

    Parameters
    ----------
    source
        Name of a ready table, whose entries apply to labels of the same words; or the path of a
        JSON file with codes by the exact names of labels, see ``docs/reference/label-codes.md``.
    output
        Labels, or regions if there are any.

    Returns
    -------
    dict
        Codes by name, in the order of `output`; names without an entry are left out.

    Raises
    ------
    FileNotFoundError
        `source` is no ready table, and there is no such file.
    InputError
        The file has another form, a code is impossible, or a name is no label's; or the ready
        table has none of the labels.
    """
    names = coded_names(output)
    if source in ready_tables():
        table = ready_table(source)
        found = {name: table[_words(name)] for name in names if _words(name) in table}
        if not found:
            raise InputError(
                f"the ready table {source} has none of the labels {', '.join(names)}; give a file "
                "of codes, or another table"
            )
        return found
    path = Path(source)
    try:
        codes = parse_codes(_content(path), str(path))
    except PackageError as error:
        raise InputError(str(error)) from None
    complaints = "; ".join(code_complaints(codes, output))
    if complaints:
        raise InputError(f"{path}: {complaints}")
    return {name: codes[name] for name in names if name in codes}


def ready_table(name: str) -> dict[str, LabelCodes]:
    """Read a ready table: codes by the words of a label's name, see :func:`ready_tables`."""
    file = resources.files("segmaformer.export.label_codes") / f"{name}.json"
    return {_words(label): codes for label, codes in parse_codes(file.read_bytes(), name).items()}


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; expected a file of codes, or a ready table: "
            f"{', '.join(ready_tables())}"
        )
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} is larger than 1 MiB; no file of codes is")
    return content


def _words(name: str) -> str:
    """Return a name's words in lower case, however they are joined."""
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))
