"""Options that open a predictor, in this process or in a worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmaformer.runtime.backends import BackendOptions, Device
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.progress import Report


@dataclass(frozen=True)
class PredictorOptions:
    """Packages and options of a predictor.

    Attributes
    ----------
    models
        Folders of the packages, with the SHA-256 of the manifests that were checked.
    backend, device, variant, tta, threads, memory_budget_mib, reading, postprocessing
        As for :class:`segmaformer.runtime.Predictor`.
    """

    models: tuple[tuple[Path, str], ...]
    backend: str
    device: Device | None
    variant: str | None
    tta: bool
    threads: int | None
    memory_budget_mib: int | None
    reading: ScanOptions
    postprocessing: bool

    def naming(self, networks: Sequence[Mapping[str, Any]]) -> PredictorOptions:
        """Return options that name what ``auto`` chose, so that other processes choose the same.

        Parameters
        ----------
        networks
            Backend, device and variant of the networks of an open predictor. If they differ, the
            options stay as they are.
        """
        kinds = {(each["backend"], each["device"], each["variant"]) for each in networks}
        if len(kinds) != 1:
            return self
        ((backend, device, variant),) = kinds
        return dataclasses.replace(self, backend=backend, device=device, variant=variant)

    def open(self, packages: Sequence[Package], report: Report) -> Predictor | Ensemble:
        """Open the predictor of packages that were opened; `report` is called with messages."""
        options = {
            "variant": self.variant,
            "tta": self.tta,
            "memory_budget_mib": self.memory_budget_mib,
            **dataclasses.asdict(self.reading),
            "postprocessing": self.postprocessing,
            "options": BackendOptions(threads=self.threads, device=self.device),
            "report": report,
        }
        if len(packages) == 1:
            return Predictor(packages[0], self.backend, **options)
        return Ensemble(packages, self.backend, **options)

    def open_again(self, report: Report) -> Predictor | Ensemble:
        """Open packages that another process has checked, and their predictor.

        Raises
        ------
        PackageError
            A package is no longer the one that was checked.
        """
        packages = []
        for path, sha256 in self.models:
            package = Package.open(path)
            if package.manifest_sha256 != sha256:
                raise PackageError(f"{path} was replaced during the run; start again")
            packages.append(package)
        return self.open(packages, report)
