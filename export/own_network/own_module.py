"""A network of the user's own as a checkpoint that can be exported.

The module is the user's code, built and imported by the user. Its use, how scans are prepared,
cut into tiles and labelled, comes from nnU-Net's plans.json and dataset.json or is stated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segmaformer.checkpoint.fields import listing
from segmaformer.checkpoint.files.container import (
    CheckpointFile,
    WeightDictionary,
    read_checkpoint_file,
)
from segmaformer.checkpoint.loading import Checkpoint
from segmaformer.checkpoint.recognition import without_wrappers
from segmaformer.checkpoint.strict import check_names_and_shapes, load_weights
from segmaformer.checkpoint.training.documents import read_json
from segmaformer.checkpoint.training.labels import channel_names, output_of
from segmaformer.checkpoint.training.plans import (
    patch_size,
    preprocessing_of,
    resolve_configuration,
)
from segmaformer.checkpoint.training.readers import training_reader
from segmaformer.export.own_network.module_probe import FirstOutput, probe_module
from segmaformer.export.own_network.onnx_network import read_onnx
from segmaformer.export.own_network.pt2_network import read_pt2_network
from segmaformer.export.own_network.surroundings import Surroundings
from segmaformer.export.pipeline import ExportOptions, export_package
from segmaformer.mamba import convert
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import use_complaints
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.typed_json import build, load_json_object
from segmaformer.runtime.progress import Report
from segmaformer.runtime.spec import Output, Preprocessing, Tiling


@dataclass(frozen=True)
class Use:
    """Use of a network, in the manifest's own terms.

    Attributes
    ----------
    preprocessing
        From a scan to the network's input.
    tiling
        Size of tiles, how they overlap and are blended.
    output
        Meaning of the logits.
    """

    preprocessing: Preprocessing
    tiling: Tiling
    output: Output

    def __post_init__(self) -> None:
        complaints = "; ".join(use_complaints(self.preprocessing, self.tiling, self.output))
        if complaints:
            raise InputError(f"the network's use contradicts itself: {complaints}")


def read_use(path: Path) -> Use:
    """Read a file of the manifest's keys ``preprocessing``, ``tiling`` and ``output``.

    Raises
    ------
    PackageError
        Not JSON, or a key that is missing, unknown or of another type.
    InputError
        Keys that contradict each other.
    """
    document = load_json_object(path.read_bytes(), path.name)
    return build(Use, document, path.name, ignore_unknown=False)


def use_of_plans(
    plans: Path | Mapping[str, Any],
    dataset_json: Path | Mapping[str, Any],
    *,
    configuration: str | None = None,
    mirror_axes: Sequence[int] = (),
) -> Use:
    """Read the use of a network that nnU-Net trained.

    Parameters
    ----------
    plans, dataset_json
        nnU-Net's files, or their contents.
    configuration
        Name in the plans; None takes the only one in 3-D that stands alone.
    mirror_axes
        Axes that may be mirrored at test time, which only a checkpoint records.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    InputError
        A document is malformed, or nnU-Net's pipeline here cannot follow it.
    """
    planned, dataset = (
        read_json(each) if isinstance(each, Path) else each for each in (plans, dataset_json)
    )
    name, plan = resolve_configuration(planned, configuration)
    if plan.get("previous_stage") is not None:
        raise InputError(
            f"configuration {name} is the second stage of a cascade, whose first network takes the "
            "scan; that works for nnU-Net's own trainings alone. Give another configuration"
        )
    reader = training_reader(planned, dataset)
    return Use(
        preprocessing_of(planned, plan, channel_names(dataset), reader),
        Tiling(patch_size(plan), mirror_axes=tuple(mirror_axes)),
        output_of(dataset),
    )


def module_checkpoint(
    module: nn.Module,
    use: Use,
    *,
    weights: str | Path | CheckpointFile | Mapping[str, torch.Tensor] | None = None,
    weights_key: str | None = None,
    name: str | None = None,
) -> Checkpoint:
    """Bring a network of the user's own into the form of a loaded checkpoint.

    Parameters
    ----------
    module
        (B, C, D, H, W) -> logits (B, K, D, H, W), or a list, tuple or dictionary whose first
        entry of that shape they are, as networks under deep supervision give. It is set to
        evaluation mode and float32, on the CPU.
    use
        How it is used: :func:`use_of_plans`, :func:`read_use`, or stated.
    weights
        A checkpoint file, which is read without running code from it, or has been; or tensors by
        name; None keeps those that the module has.
    weights_key
        Which dictionary of the file, where several fit: its key.
    name
        What the manifest calls the network; its class's name by default.

    Raises
    ------
    InputError
        The weights do not fit, or the module cannot be exported, as
        :func:`segmaformer.export.own_network.module_probe.probe_module` says.
    NotImplementedError
        It has layers of mamba_ssm that :func:`segmaformer.mamba.convert` cannot honour.
    """
    module = _unwrapped(module)
    name = name or type(module).__name__
    converted = convert(module)
    module = module.cpu().float().eval()
    path, digest = Path(name), None
    if isinstance(weights, str | Path):
        weights = read_checkpoint_file(weights)
    if isinstance(weights, CheckpointFile):
        path, digest = weights.path, weights.sha256
        _load(module, _fitting(module, weights, weights_key))
    elif weights is not None:
        _load(module, dict(weights))
    channels, outputs = len(use.preprocessing.channels), use.output.channels
    wrapped = FirstOutput(module, outputs).eval()
    probe_module(wrapped, (channels, *use.tiling.tile))
    return Checkpoint(
        model=wrapped,
        arch=name,
        config={},
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        output=use.output,
        known_preprocessing=use.preprocessing,
        known_tiling=use.tiling,
        trainer=None,
        assumptions=(
            f"The network is the user's own module, {name}.",
            *_remarks(wrapped.surroundings, converted),
        ),
        path=path,
        sha256=digest or _digest(module),
    )


def onnx_checkpoint(path: Path, use: Use, sha256: str) -> Checkpoint:
    """Bring a network in an ONNX file into the form of a loaded checkpoint.

    Parameters
    ----------
    path, sha256
        The file, and its digest.
    use
        How it is used: :func:`use_of_plans`, :func:`read_use`, or stated.

    Raises
    ------
    InputError
        The file cannot be taken, as :mod:`segmaformer.export.own_network.onnx_network` says, or
        the network cannot be exported, as for :func:`module_checkpoint`.
    ParityError
        The graph in the form that export has computes something else than the file.
    """
    tile, outputs = use.tiling.tile, use.output.channels
    shape = (len(use.preprocessing.channels), *tile)
    network = read_onnx(path, shape, (outputs, *tile)).eval()
    probe_module(FirstOutput(network, outputs), shape)
    network.compare_graph(shape)
    return Checkpoint(
        model=network,
        arch="onnx",
        config={},
        parameters=sum(math.prod(weight.dims) for weight in network.graph.graph.initializer),
        output=use.output,
        known_preprocessing=use.preprocessing,
        known_tiling=use.tiling,
        trainer=None,
        assumptions=(
            "The network is an ONNX file of the user's own. The reference of every comparison is "
            "ONNX Runtime on that file, not PyTorch.",
        ),
        path=path,
        sha256=sha256,
    )


def program_checkpoint(path: Path, use: Use, sha256: str) -> Checkpoint:
    """Bring a network that ``torch.export.save`` wrote into the form of a loaded checkpoint.

    Parameters
    ----------
    path, sha256
        The ``.pt2`` file, and its digest.
    use
        How it is used: :func:`use_of_plans`, :func:`read_use`, or stated.

    Raises
    ------
    InputError
        The file cannot be taken, as :func:`segmaformer.export.own_network.pt2_network.
        read_pt2_network` says, or the network cannot be exported, as for
        :func:`module_checkpoint`.
    """
    network = read_pt2_network(path, (len(use.preprocessing.channels), *use.tiling.tile))
    return replace(
        module_checkpoint(network, use, name="pt2"),
        assumptions=("The network is a program of the user's own that torch.export saved.",),
        path=path,
        sha256=sha256,
    )


def export_module(
    module: nn.Module,
    target: str | Path,
    use: Use,
    options: ExportOptions | None = None,
    *,
    report: Report = lambda message: None,
    **source: Any,
) -> Package:
    """Write a package of a network of the user's own.

    Parameters
    ----------
    module, use
        See :func:`module_checkpoint`.
    target, options, report
        See :func:`segmaformer.export.pipeline.export_package`, which also names the errors.
    **source
        Other arguments of :func:`module_checkpoint`.

    Returns
    -------
    Package
        The package, opened.
    """
    checkpoint = module_checkpoint(module, use, **source)
    return export_package(checkpoint, target, options or ExportOptions(), report=report)


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside torch.compile and nn.DataParallel; refuse TorchScript."""
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, nn.DataParallel):
        return _unwrapped(module.module)
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            "the module is TorchScript, which PyTorch no longer traces; build the network from its "
            "Python code, or export it to ONNX where that runs and give the .onnx file"
        )
    return module


def _remarks(surroundings: Surroundings, converted: int) -> Iterator[str]:
    """Say what in a module's code is answered otherwise than where it was trained."""
    if converted:
        yield f"{converted} layers of mamba_ssm compute with this project's scan."
    if surroundings.asked_for_cuda:
        yield "The module asks for CUDA; the CPU answers, without what is done on GPUs alone."
    if surroundings.printed:
        yield "The module prints while it runs; the package does not."


def _load(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    found = {without_wrappers(key): value for key, value in weights.items()}
    check_names_and_shapes(module.state_dict(), found)
    load_weights(module, found)


def _fitting(module: nn.Module, file: CheckpointFile, key: str | None) -> dict[str, torch.Tensor]:
    """Tensors of the one dictionary of a file that has the module's names."""
    wanted = module.state_dict().keys()
    fitting = [
        candidate
        for candidate in file.dictionaries
        if key in (None, ".".join(candidate.keys))
        and wanted <= {without_wrappers(name) for name in candidate.tensors}
    ]
    if len(fitting) == 1:
        return fitting[0].tensors
    if fitting:
        names = listing([_title(each) for each in fitting])
        raise InputError(f"{file.path.name} has the weights of this module in {names}; choose one")
    nearest = max(file.dictionaries, key=lambda each: len(wanted & each.tensors.keys()))
    check_names_and_shapes(module.state_dict(), nearest.tensors)
    raise InputError(f"{file.path.name} has no weights under {key!r}")


def _title(candidate: WeightDictionary) -> str:
    return ".".join(candidate.keys) or "the file itself"


def _digest(module: nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
