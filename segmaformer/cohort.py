"""Segmentation of one scan a call, for frameworks that share a cohort among processes."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from segmaformer.cli.cases import Case
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.cli.resume import divide_done
from segmaformer.cli.segment_case import all_settings, result_of, segment_each
from segmaformer.runtime.backends import Device
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.progress import Progress
from segmaformer.runtime.results.segmentation import DICOM_SUFFIX

_log = logging.getLogger(__name__)
_opening = threading.Lock()


class CaseSegmenter:
    """Segment one scan a call, with a predictor that each process opens once.

    An object can be pickled and costs little to send: it holds the path of the package and
    options. The first call in a process opens the package, checks every byte of it, and keeps the
    predictor for later calls, of equal objects too. Several threads may call at once.

    Parameters
    ----------
    package
        Folder of the package, at a path that every machine sees.
    backend, device, variant, tta, threads, memory_budget_mib
        As for :class:`segmaformer.runtime.Predictor`; threads and memory are those of one process.
    resume
        Skip a scan whose results are there and were made in the same way.

    Raises
    ------
    FileNotFoundError, PackageError
        There is no package, or it was altered.

    Examples
    --------
    >>> segment = CaseSegmenter("brain.sgmf", threads=1)  # doctest: +SKIP
    >>> segment("scan.nii.gz", "labels.nii.gz")["exit_code"]  # doctest: +SKIP
    0
    """

    def __init__(
        self,
        package: str | Path,
        backend: str = "auto",
        *,
        device: Device | None = None,
        variant: str | None = None,
        tta: bool = False,
        threads: int | None = None,
        memory_budget_mib: int | None = None,
        resume: bool = False,
    ):
        opened = Package.open(Path(package).absolute())
        self._resume = resume
        self._options = PredictorOptions(
            models=((opened.path, opened.manifest_sha256),),
            backend=backend,
            device=device,
            variant=variant,
            tta=tta,
            threads=threads,
            memory_budget_mib=memory_budget_mib,
            reading=ScanOptions(),
            postprocessing=True,
        )

    def __call__(
        self, scan: str | Path | Sequence[str | Path], label_map: str | Path
    ) -> dict[str, Any]:
        """Write the label map of a scan and its record, both or neither.

        Parameters
        ----------
        scan
            File or DICOM folder, or one for each channel.
        label_map
            File to write, in a folder that exists: NIfTI, NRRD, MetaImage or, for DICOM, ``.dcm``.

        Returns
        -------
        dict
            JSON-ready entry of a summary, as ``sgmf infer --json`` prints it: ``scan``,
            ``output``, ``statistics`` and ``exit_code`` 0; or ``error`` and another ``exit_code``
            for a scan that failed or was refused; or ``skipped``.

        Raises
        ------
        PackageError
            The package was replaced since this object was made.
        BackendError
            The network cannot run here.
        """
        files = (scan,) if isinstance(scan, str | Path) else scan
        target = Path(label_map)
        is_dicom = target.suffix.lower() == DICOM_SUFFIX
        case = Case(
            tuple(map(Path, files)), target, segmentation_type="binary" if is_dicom else None
        )
        with _opening:
            predictor = _opened(self._options)
        if self._resume:
            done, _ = divide_done(
                [case],
                "same-labels",
                backend=predictor.backend,
                settings=all_settings(predictor),
                any_backend=self._options.backend == "auto",
            )
            if done:
                return {"scan": [str(path) for path in case.scan], "skipped": True}
        ((_, outcome),) = segment_each(predictor, [case], _no_bar, _log.warning)
        return result_of(case, outcome)


@functools.lru_cache(maxsize=1)
def _opened(options: PredictorOptions) -> Predictor | Ensemble:
    return options.open_again(_log.info)


def _no_bar(_label: str) -> nullcontext[Progress]:
    return nullcontext(lambda _stage, _done, _count: None)
