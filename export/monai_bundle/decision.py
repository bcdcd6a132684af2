"""Translation of a bundle's postprocessing into the meaning of the logits.

Only what the pipeline computes exactly as MONAI does is taken; everything else is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from segmaformer.checkpoint.training.labels import region_output
from segmaformer.export.monai_bundle.arguments import Transform
from segmaformer.export.monai_bundle.preparation import Preparation
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report
from segmaformer.runtime.spec import Label, Output, Preprocessing

_BRATS = ("whole tumor", "tumor core", "enhancing tumor")
"""Nested regions, those that contain others first."""


@dataclass(frozen=True)
class Decision:
    """Postprocessing of a bundle as far as it was read.

    Attributes
    ----------
    activation
        ``softmax`` or ``sigmoid``; None for none.
    rule
        ``argmax`` or ``threshold``; None if nothing decides yet.
    inverted
        ``linear`` or ``nearest``, the interpolation of the way back; None before it.
    """

    activation: str | None = None
    rule: str | None = None
    inverted: str | None = None


def read_decision(
    transforms: Iterable[Transform], preparation: Preparation, report: Report
) -> Decision:
    """Follow the transforms of a bundle's postprocessing.

    Parameters
    ----------
    preparation
        What ``Invert`` inverts.
    report
        Called with a line for each transform that is ignored.

    Raises
    ------
    InputError
        A transform, an argument or an order of them cannot be honoured exactly.
    """
    found = Decision()
    for transform in transforms:
        if transform.name == "SaveImage":
            report(f"ignored: {transform.where}, as sgmf infer names and writes the label map")
            continue
        step = _STEPS.get(transform.name)
        if step is None:
            raise transform.refused(
                f"cannot be honoured exactly; of postprocessing {', '.join(sorted(_STEPS))} can"
            )
        transform.key()
        found = step(found, transform, preparation)
        transform.finish()
    if found.rule is None:
        raise InputError(
            "the bundle's postprocessing does not decide on labels; expected AsDiscrete with "
            "argmax or threshold"
        )
    moved = preparation.orientation or preparation.spacing or preparation.crop_above is not None
    if moved and found.inverted is None:
        raise InputError(
            "the bundle's postprocessing does not bring its labels back to the scan; expected "
            "Invertd of the preprocessing"
        )
    return found


def _activate(found: Decision, transform: Transform, _: Preparation) -> Decision:
    chosen = [name for name in ("sigmoid", "softmax") if transform.flag(name)]
    transform.expect("other")
    transform.expect("dim", 0)
    if found != Decision() or len(chosen) != 1:
        raise transform.refused("expected first, with either sigmoid or softmax")
    return dataclasses.replace(found, activation=chosen[0])


def _invert(found: Decision, transform: Transform, preparation: Preparation) -> Decision:
    if transform.written("transform") != "@preprocessing":
        raise transform.refused("inverts something else than @preprocessing")
    if transform.key("orig_keys") not in (None, preparation.key):
        raise transform.refused(f"does not invert the key {preparation.key!r}")
    transform.expect("post_func")
    transform.ignore("meta_keys", "orig_meta_keys", "meta_key_postfix", "to_tensor", "device")
    nearest = transform.flag("nearest_interp", True)
    if found.inverted is not None:
        raise transform.refused("inverts twice")
    if found.rule is not None and not nearest and preparation.spacing is not None:
        raise transform.refused(
            "interpolates labels linearly; set nearest_interp to true, or put it before AsDiscrete"
        )
    return dataclasses.replace(found, inverted="nearest" if nearest else "linear")


def _discretise(found: Decision, transform: Transform, _: Preparation) -> Decision:
    argmax, threshold = transform.flag("argmax"), transform.take("threshold")
    transform.expect("rounding")
    transform.expect("dim", 0)
    transform.expect("keepdim", True)
    transform.ignore("to_onehot")  # the same labels, one channel for each
    if found.rule is not None:
        raise transform.refused("decides twice")
    if argmax and threshold is None and found.activation in (None, "softmax"):
        return dataclasses.replace(found, rule="argmax")
    if not argmax and threshold == 0.5 and found.activation == "sigmoid":
        return dataclasses.replace(found, rule="threshold")
    raise transform.refused(
        "cannot be honoured exactly; expected argmax, after softmax or alone, or threshold 0.5 "
        "after sigmoid"
    )


def _type(found: Decision, transform: Transform, _: Preparation) -> Decision:
    transform.expect("dtype", "float32")
    transform.ignore("data_type", "device", "wrap_sequence", "track_meta")
    return found


_STEPS: dict[str, Callable[[Decision, Transform, Preparation], Decision]] = {
    "Activations": _activate,
    "Invert": _invert,
    "AsDiscrete": _discretise,
    "EnsureType": _type,
    "ToTensor": _type,
}


def meaning(decision: Decision, names: tuple[str, ...]) -> tuple[Output, tuple[int, ...]]:
    """Return the meaning of the outputs, and their order in the package.

    Parameters
    ----------
    names
        Name of each output channel.

    Raises
    ------
    InputError
        Masks overlap, and nothing says which contains which.
    """
    order = tuple(range(len(names)))
    if decision.rule == "argmax":
        if len(names) < 2:
            raise InputError("the bundle takes the argmax of one output; expected several")
        labels = tuple(Label(value, name) for value, name in enumerate(names))
        return Output(labels), order
    if len(names) == 1:
        return region_output({names[0]: (1,)}, (1,)), order
    lowered = [name.lower().replace("tumour", "tumor") for name in names]
    if sorted(lowered) != sorted(_BRATS):
        raise InputError(
            f"the bundle has {len(names)} masks that may overlap, {', '.join(names)}; a label map "
            "holds one value for each voxel, and it is not known which mask contains which"
        )
    sets = dict(zip(_BRATS, ((1, 2, 4), (1, 4), (4,)), strict=True))
    return region_output(sets, (2, 1, 4)), tuple(lowered.index(name) for name in _BRATS)


def with_interpolation(
    preprocessing: Preprocessing, output: Output, decision: Decision
) -> tuple[Preprocessing, Output]:
    """State what is interpolated on the way back to the scan, and how."""
    if preprocessing.spacing is None:
        return preprocessing, output
    if decision.inverted == "nearest":
        nearest = dataclasses.replace(preprocessing.logits_resampling, order=0, order_z=0)
        return dataclasses.replace(preprocessing, logits_resampling=nearest), output
    if decision.activation is None:
        return preprocessing, output
    return preprocessing, dataclasses.replace(output, interpolated="probabilities")
