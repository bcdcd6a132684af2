"""Sorting of images that came into complete series."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.node.spool import Job, Spool
from segmaformer.runtime.scans.dicom.keywords import wanted_tags
from segmaformer.runtime.scans.dicom.reading import read_image_file


@dataclass(frozen=True)
class Sorted:
    """Outcome of one look at the arrivals.

    Attributes
    ----------
    jobs
        Series that are complete.
    dropped
        Number of files that are no image of a series, or came twice.
    late
        Number of images that came after their series was taken.
    """

    jobs: tuple[Job, ...] = ()
    dropped: int = 0
    late: int = 0


class Arrivals:
    """Images of a spool by their series.

    Parameters
    ----------
    spool
        The queue.
    quiet_seconds
        A series is complete when none of its images came for so long.
    """

    def __init__(self, spool: Spool, quiet_seconds: float):
        self._spool, self._quiet_seconds = spool, quiet_seconds
        self._known: dict[Path, tuple[str, str]] = {}

    def sort(self) -> Sorted:
        """Look at all images that came, and make jobs of complete series."""
        arrived = self._spool.arrivals()
        self._known = {path: self._known[path] for path in arrived if path in self._known}
        dropped = 0
        series: dict[str, dict[str, Path]] = defaultdict(dict)
        for path in arrived:
            uids = self._known.get(path) or _uids(path)
            if uids is None or uids[1] in series[uids[0]]:
                self._spool.drop(path)
                dropped += 1
                continue
            self._known[path] = uids
            series[uids[0]][uids[1]] = path
        jobs, late = [], 0
        for series_uid, images in series.items():
            paths = [*images.values()]
            if not paths or not self._is_quiet(paths):
                continue
            if not self._spool.completes(series_uid, images):
                late += len(paths)
                for path in paths:
                    self._spool.drop(path)
                continue
            self._spool.note_taken(series_uid, images)
            jobs.append(self._spool.make_job(paths))
        return Sorted(tuple(jobs), dropped, late)

    def _is_quiet(self, paths: list[Path]) -> bool:
        latest = max(path.stat().st_mtime for path in paths)
        return time.time() - latest >= self._quiet_seconds


def _uids(path: Path) -> tuple[str, str] | None:
    """Return the UIDs of an image's series and of itself; None if it has none."""
    try:
        read = read_image_file(path, wanted_tags(()))
    except (SgmfError, OSError, ValueError):
        return None
    if read is None or not read[0].series_uid or not read[0].sop_instance_uid:
        return None
    return read[0].series_uid, read[0].sop_instance_uid
