"""A real scan to try the toolkit on, without a download.

The wheel of nilearn carries the ICBM152 2009a T1 template (1 mm, skull removed):
an average of 152 adult brains in MNI152 space. That space is larger than most heads,
so volumes measured in it are too large.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib

from segmaformer.runtime.errors import MissingExtraError
from segmaformer.runtime.scans.nifti import write_image

DEMO_FILE = "icbm152_t1.nii.gz"
TEMPLATE_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"

_NIFTI_XFORM_MNI_152 = 4


def demo_scan(target_dir: str | Path) -> Path:
    """Write the demo scan.

    Parameters
    ----------
    target_dir
        Folder to write to; created where it is missing.

    Returns
    -------
    pathlib.Path
        The NIfTI file: uint8, 197 x 233 x 189 voxels of 1 mm, RAS+, in MNI152 space.

    Raises
    ------
    MissingExtraError
        nilearn is not installed, or is a version without the template.
    OSError
        `target_dir` cannot be written to.
    """
    template: Any = nib.load(template_path())
    scan = nib.Nifti1Image(template.dataobj, template.affine)
    scan.set_qform(scan.affine, _NIFTI_XFORM_MNI_152)
    scan.set_sform(scan.affine, _NIFTI_XFORM_MNI_152)
    scan.header.set_xyzt_units("mm")
    target = Path(target_dir) / DEMO_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, scan)
    return target


def template_path() -> Path:
    """Find the template in the installed nilearn, without importing nilearn."""
    install = "install the demo extra: pip install 'segmaformer[demo]'"
    spec = find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"the demo scan comes with nilearn, which is not installed; {install}"
        )
    path = Path(spec.submodule_search_locations[0]) / TEMPLATE_FILE
    if not path.is_file():
        raise MissingExtraError(
            f"the installed nilearn has no {TEMPLATE_FILE}, which is the demo scan; "
            f"expected nilearn 0.11 to 0.14; {install}"
        )
    return path
