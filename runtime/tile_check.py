"""Comparison of a session's result for the phantom tile with PyTorch's at export."""

from __future__ import annotations

from typing import Any

from segmaformer.runtime.backends import EVERYWHERE, Session, open_session, run_checked
from segmaformer.runtime.package.manifest import EXACT_VARIANT, Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.stored_reference import reference_tile, stored_reference
from segmaformer.runtime.parity.tile_parity import TileParity, bound_elsewhere
from segmaformer.runtime.progress import Report


class TileCheck:
    """Comparison of a package's sessions with its reference.

    The reference is PyTorch's answer in the package; if the package has none, it is fp32 in ONNX
    Runtime on the CPU.

    Parameters
    ----------
    package
        A checked package.
    report
        Called with a line of text if fp32 stands in.

    Attributes
    ----------
    reference
        Name of the reference, for people.
    tile
        The phantom tile, shape (1, C, D, H, W), float32.

    Raises
    ------
    PackageError
        The stored reference cannot be used.
    BackendError
        fp32 stands in and does not run.
    """

    def __init__(self, package: Package, report: Report = lambda line: None):
        self._manifest = package.manifest
        self.tile = reference_tile(self._manifest)
        stored = stored_reference(package)
        if stored is not None:
            self.reference = "PyTorch float32 at export"
            self._compare = stored.compare
        else:
            report("the package has no PyTorch reference; comparing with fp32 on the CPU")
            self.reference = "ONNX Runtime, CPU, fp32"
            session = open_session(package, backend=EVERYWHERE, variant=EXACT_VARIANT)
            expected = run_checked(session, self.tile)[0]
            self._compare = lambda logits, parity: parity.add(logits, expected)

    def run(self, session: Session, variant: str) -> dict[str, Any]:
        """Run the tile and compare.

        int8 is compared, too, but not judged, since its gate is on scans.

        Returns
        -------
        dict
            Document for JSON: ``variant``, ``backend``, the figures of :meth:`TileParity.record`,
            ``judged`` and ``shortcomings``.

        Raises
        ------
        BackendError
            The session failed, or gave NaN or infinity.
        """
        parity = TileParity(
            self._manifest.output, reference=self.reference, bound=bound_elsewhere(self._manifest)
        )
        self._compare(run_checked(session, self.tile)[0], parity)
        judged = not is_int8(self._manifest, variant)
        exact = variant == EXACT_VARIANT
        found = parity.shortcomings(exact=exact) if judged else []
        return {
            "variant": variant,
            "backend": session.description,
            **parity.record(exact=exact),
            "judged": judged,
            "shortcomings": found,
        }


def is_int8(manifest: Manifest, variant: str) -> bool:
    """Tell if a variant was calibrated."""
    return variant in (manifest.calibration or {}).get("variants", {})
