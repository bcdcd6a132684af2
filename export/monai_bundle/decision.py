"""Translation of a bundle's postprocessing into the meaning of the logits.

Only what the pipeline computes exactly as MONAI does is taken; everything else is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from segmaformer.checkpoint.fields import integers
from segmaformer.checkpoint.training.labels import region_output
from segmaformer.export.monai_bundle.arguments import Transform
from segmaformer.export.monai_bundle.preparation import NEAREST_OF_SIZE, Preparation
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report
from segmaformer.runtime.spec import KeepLargest, Label, Output, Preprocessing

_BRATS = ("whole tumor", "tumor core", "enhancing tumor")
"""Nested regions, those that contain others first."""


@dataclass(frozen=True)
class Kept:
    """A ``KeepLargestConnectedComponent``; without `labels` it applies to all of them."""

    labels: tuple[int, ...] | None
    independent: bool
    connectivity: int
    components: int
    where: str


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
    one_hot
        Whether labels have a channel each, instead of one for all.
    kept
        Components to keep: for each step its labels, None for all, and whether they are one.
    """

    activation: str | None = None
    rule: str | None = None
    inverted: str | None = None
    one_hot: bool = False
    kept: tuple[Kept, ...] = ()


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
    if _moves(preparation) and found.inverted is None:
        raise InputError(
            "the bundle's postprocessing does not bring its labels back to the scan; expected "
            "Invertd of the preprocessing"
        )
    return found


def _moves(preparation: Preparation) -> bool:
    """Tell if the network sees other voxels than the scan's, or in another order."""
    changed = preparation.orientation or preparation.resampler
    return bool(changed) or preparation.crop_above is not None


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
    if found.rule is not None and not nearest and preparation.resampler:
        raise transform.refused(
            "interpolates labels linearly; set nearest_interp to true, or put it before AsDiscrete"
        )
    return dataclasses.replace(found, inverted="nearest" if nearest else "linear")


def _discretise(found: Decision, transform: Transform, _: Preparation) -> Decision:
    argmax, threshold = transform.flag("argmax"), transform.take("threshold")
    transform.expect("rounding")
    transform.expect("dim", 0)
    transform.expect("keepdim", True)
    one_hot = transform.take("to_onehot") is not None
    if found.rule is not None:
        raise transform.refused("decides twice")
    if argmax and threshold is None and found.activation in (None, "softmax"):
        return dataclasses.replace(found, rule="argmax", one_hot=one_hot)
    if not argmax and threshold == 0.5 and found.activation == "sigmoid":
        return dataclasses.replace(found, rule="threshold")
    raise transform.refused(
        "cannot be honoured exactly; expected argmax, after softmax or alone, or threshold 0.5 "
        "after sigmoid"
    )


def _keep(found: Decision, transform: Transform, preparation: Preparation) -> Decision:
    if found.rule is None:
        raise transform.refused("comes before labels are decided; expected AsDiscrete before it")
    if _moves(preparation) and found.inverted is None:
        raise transform.refused(
            "finds components on the network's grid; put it after Invertd, on the scan's"
        )
    transform.expect("is_onehot", found.one_hot)
    given = transform.take("applied_labels")
    listed = [given] if isinstance(given, int) else given
    labels = None
    if listed is not None:
        labels = tuple(integers(listed, f"{transform.where}.applied_labels"))
        if not labels or min(labels) < 1 or len(set(labels)) < len(labels):
            raise transform.refused(
                f"has applied_labels {given}; expected different ones above 0, the background"
            )
    independent = transform.flag("independent", True)
    connectivity = transform.take("connectivity") or 3
    components = transform.take("num_components", 1)
    if connectivity not in (1, 2, 3) or components not in range(1, 65536):
        raise transform.refused(
            f"has connectivity {connectivity!r} and num_components {components!r}; expected 1 to "
            "3, and at least 1"
        )
    kept = Kept(labels, independent, int(connectivity), int(components), transform.where)
    return dataclasses.replace(found, kept=(*found.kept, kept))


def _type(found: Decision, transform: Transform, _: Preparation) -> Decision:
    transform.expect("dtype", "float32")
    transform.ignore("data_type", "device", "wrap_sequence", "track_meta")
    return found


_STEPS: dict[str, Callable[[Decision, Transform, Preparation], Decision]] = {
    "Activations": _activate,
    "Invert": _invert,
    "AsDiscrete": _discretise,
    "KeepLargestConnectedComponent": _keep,
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


def postprocessing(decision: Decision, output: Output) -> tuple[KeepLargest, ...]:
    """Return the steps on the label map that keep components, as MONAI chooses them.

    Raises
    ------
    InputError
        A step applies to several masks that may overlap, or to a label that is not there.
    """
    if decision.kept and len(output.regions) > 1:
        raise InputError(
            f"{decision.kept[0].where} keeps components of masks that may overlap; a label map "
            "holds one value for each voxel. Remove it"
        )
    values = tuple(label.value for label in output.labels if label.value > 0)
    steps: list[KeepLargest] = []
    for kept in decision.kept:
        labels = values if kept.labels is None else kept.labels
        if unknown := sorted(set(labels) - set(values)):
            raise InputError(
                f"{kept.where} has applied_labels {unknown[0]}, which is no label of the bundle; "
                f"expected some of {list(values)}"
            )
        groups = [(label,) for label in labels] if kept.independent else [labels]
        steps += [
            KeepLargest(group, kept.components, kept.connectivity, equals_stay=False)
            for group in groups
        ]
    return tuple(steps)


def with_interpolation(
    preprocessing: Preprocessing, output: Output, decision: Decision
) -> tuple[Preprocessing, Output]:
    """State what is interpolated on the way back to the scan, and how."""
    if preprocessing.spacing is None and preprocessing.shape is None:
        return preprocessing, output
    if decision.inverted == "nearest":
        nearest = dataclasses.replace(preprocessing.logits_resampling, order=0, order_z=0)
        if preprocessing.shape is not None:
            nearest = NEAREST_OF_SIZE
        return dataclasses.replace(preprocessing, logits_resampling=nearest), output
    if decision.activation is None:
        return preprocessing, output
    return preprocessing, dataclasses.replace(output, interpolated="probabilities")
