"""One scan through the network, and all that is written about it at once."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from segmaformer.cli.cases import Case
from segmaformer.runtime.atomic import atomic_path
from segmaformer.runtime.predictor import Predictor, Progress


def segment_case(predictor: Predictor, case: Case, progress: Progress) -> dict[str, Any]:
    """Segment one scan and write all of its results, or none.

    Returns
    -------
    dict
        For JSON, and the content of the statistics file: ``scan``, ``output``,
        ``preview`` and ``stats`` (paths; the last two where wanted), ``package``,
        ``backend``, ``seconds`` by stage and ``statistics``, see
        :func:`segmaformer.runtime.statistics.label_statistics`.
    """
    with ExitStack() as reserved:
        # Names are taken first: a folder that cannot be written to shows before the work.
        places = {path: reserved.enter_context(atomic_path(path)) for path in case.results}
        segmentation = predictor.predict(case.scan, progress=progress)
        document = {
            **_paths(case),
            "package": segmentation.manifest.name,
            "backend": segmentation.backend,
            "seconds": segmentation.seconds,
            "statistics": segmentation.statistics(),
        }
        segmentation.save(places[case.label_map])
        if case.preview is not None:
            segmentation.save_preview(places[case.preview])
        if case.statistics is not None:
            text = json.dumps(document, indent=2) + "\n"
            places[case.statistics].write_text(text, encoding="utf-8")
    return document


def _paths(case: Case) -> dict[str, Any]:
    named: dict[str, Path | None] = {
        "output": case.label_map,
        "preview": case.preview,
        "stats": case.statistics,
    }
    present = {key: str(path) for key, path in named.items() if path is not None}
    return {"scan": [str(path) for path in case.scan], **present}
