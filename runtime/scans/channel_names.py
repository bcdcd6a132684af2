"""Check that file names do not suggest another order of channels.

No scan shows for sure that it is a T1 or a FLAIR, but its name often does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.formats import scan_name

# BIDS and others write the weighting of a contrast as T1w.
_WEIGHTED = re.compile(r"(t1|t2|pd)w")


def check_channel_names(files: Sequence[Path], channels: Sequence[str]) -> Iterator[Finding]:
    """Warn if the names of one file for each channel suggest another order.

    Parameters
    ----------
    files
        Files in the order in which they were given.
    channels
        Names of the package's channels, in its order.

    Yields
    ------
    Finding
        A warning, if the names of all channels, as whole words, fit the files in a single way and
        that is another order.
    """
    named = [_words(scan_name(path)) for path in files]
    wanted = [_words(name) for name in channels]
    if len(files) != len(channels) or len(files) < 2 or not all(map(_has_letter, wanted)):
        return
    matches = [
        {index for index, name in enumerate(named) if _contains(name, words)} for words in wanted
    ]
    order = _only_assignment(matches)
    if order is None or order == [*range(len(files))]:
        return
    given = ", ".join(path.name for path in files)
    right = ", ".join(files[index].name for index in order)
    yield Finding(
        "warn",
        f"the files are given in the order {given}, but the model takes {', '.join(channels)}; by "
        f"their names the right order is {right}",
        "Check which file is which channel, and give them in the model's order.",
    )


def _words(text: str) -> list[str]:
    words = re.findall(r"[^\W_]+", text.lower())
    return [_WEIGHTED.sub(r"\1", word) if _WEIGHTED.fullmatch(word) else word for word in words]


def _has_letter(words: list[str]) -> bool:
    return any(letter.isalpha() for word in words for letter in word)


def _contains(name: list[str], words: list[str]) -> bool:
    """Tell if `words` occur in `name` one after the other."""
    count = len(words)
    return any(name[at : at + count] == words for at in range(len(name) - count + 1))


def _only_assignment(matches: list[set[int]]) -> list[int] | None:
    """Return the file of each channel if only one assignment is possible; else None.

    In a unique assignment, every step leaves a channel with one file.
    """
    left = dict(enumerate(matches))
    found: dict[int, int] = {}
    while left:
        channel = next((each for each, files in left.items() if len(files) == 1), None)
        if channel is None:
            return None
        (found[channel],) = left.pop(channel)
        left = {each: files - {found[channel]} for each, files in left.items()}
    return [found[channel] for channel in range(len(matches))]
