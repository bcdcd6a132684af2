"""A real scan to try the toolkit on, without a download.

The wheel of nilearn carries the ICBM152 2009a T1 template (1 mm, skull removed):
an average of 152 adult brains in MNI152 space. The demo scan is the region around its
left hippocampus, framed as in the Medical Segmentation Decathlon's hippocampus task.
MNI152 space is larger than most heads, so volumes measured in it are too large.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segmaformer.runtime.errors import MissingExtraError
from segmaformer.runtime.scans.nifti import write_image

DEMO_FILE = "icbm152_left_hippocampus_t1.nii.gz"
TEMPLATE_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"

# The decathlon's crops are 35 x 50 x 36 mm with 5 to 7 mm around the hippocampus. In MNI152
# space it lies steeper: 36 mm from its floor to its tail, hence the taller box. Farther
# down and towards the midline the template, whose skull is removed, would fill with zeros.
FIRST_VOXEL_MM = (-42, -46, -32)
SHAPE = (35, 50, 40)

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
        The NIfTI file: uint8, 35 x 50 x 40 voxels of 1 mm, RAS+, on the grid of the
        template, so that it overlays any scan in MNI152 space.

    Raises
    ------
    MissingExtraError
        nilearn is not installed, or is a version without the template.
    OSError
        `target_dir` cannot be written to.
    """
    template: Any = nib.load(template_path())
    first = np.rint(np.linalg.solve(template.affine, (*FIRST_VOXEL_MM, 1))[:3]).astype(int)
    box = tuple(slice(start, start + extent) for start, extent in zip(first, SHAPE, strict=True))
    crop = template.slicer[box]
    crop.set_qform(crop.affine, _NIFTI_XFORM_MNI_152)
    crop.set_sform(crop.affine, _NIFTI_XFORM_MNI_152)
    crop.header.set_xyzt_units("mm")
    target = Path(target_dir) / DEMO_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, crop)
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
            f"the installed nilearn has no {TEMPLATE_FILE}, which the demo scan is cut from; "
            f"expected nilearn 0.11 to 0.14; {install}"
        )
    return path
