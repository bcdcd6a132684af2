"""Reading the files that trained weights come in, without running anything they contain.

Pickled files go through PyTorch's restricted unpickler. On top of what that one allows
by itself, only NumPy scalars are rebuilt, because nnU-Net stores its training log as
such. There is no way around it: a file that needs more is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import torch

from segmaformer.checkpoint.fields import integers
from segmaformer.runtime.digest import sha256_of
from segmaformer.runtime.errors import InputError, MissingExtraError

WRAPPERS: Final = ("network_weights", "state_dict", "model_state_dict", "module", "model")
"""Keys under which training programs store the weights; the first that holds some wins."""

_WRAPPER_NAMES = r"((module|_orig_mod)\.)+"
"""What DistributedDataParallel and torch.compile put in front of every name."""

_SCALAR_TYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "float16",
    "float32",
    "float64",
)


def _numpy_scalar_globals() -> list[Any]:
    """List what a pickled NumPy scalar names: its constructor, `dtype` and its kinds.

    The constructor takes a type and raw bytes, so nothing else can be reached through it;
    NumPy 1 and 2 keep it in different modules.
    """
    rebuild_scalar = np.float64(0).__reduce__()[0]
    return [
        (rebuild_scalar, "numpy.core.multiarray.scalar"),
        (rebuild_scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(name)) for name in _SCALAR_TYPES),
    ]


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """What a checkpoint file holds, before anyone asks which network it is.

    Attributes
    ----------
    path
        The file that was read.
    sha256
        Hexadecimal digest of the whole file.
    weights
        Tensors by name, without ``module.`` and ``_orig_mod.``; types as stored.
    trainer
        Name of the nnU-Net trainer, or None.
    init_args
        What nnU-Net built the trainer from: ``plans``, ``configuration``,
        ``dataset_json`` and others; empty for other files.
    mirror_axes
        Axes that nnU-Net allows test-time mirroring on, or None where not recorded.
    assumptions
        A sentence if the file holds other weights of these names as well.
    """

    path: Path
    sha256: str
    weights: dict[str, torch.Tensor]
    trainer: str | None = None
    init_args: Mapping[str, Any] = field(default_factory=dict)
    mirror_axes: tuple[int, ...] | None = None
    assumptions: tuple[str, ...] = ()


def read_checkpoint_file(path: str | Path) -> CheckpointFile:
    """Read an nnU-Net, Lightning or bare state_dict file, or safetensors.

    Parameters
    ----------
    path
        ``.safetensors`` is read as such, anything else as a file of :func:`torch.save`.

    Raises
    ------
    FileNotFoundError
        No such file.
    InputError
        A folder, a damaged file, a file that wants to run code, or one without weights.
    MissingExtraError
        A ``.safetensors`` file without the safetensors package.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(_folder_complaint(path))
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; copy the checkpoint again")
    sha256 = sha256_of(path)
    document = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    if not isinstance(document, Mapping):
        raise InputError(
            f"{path} holds a {type(document).__name__}; expected a state_dict or a dictionary with "
            f"one under {', '.join(WRAPPERS)}"
        )
    wrapper, found = _find_weights(document, path)
    weights = strip_prefix(found, _WRAPPER_NAMES, path)
    _check_tensors(weights, path)
    return CheckpointFile(
        path=path,
        sha256=sha256,
        weights=weights,
        trainer=_optional(document, "trainer_name", str, path),
        init_args=_optional(document, "init_args", Mapping, path) or {},
        mirror_axes=_mirror_axes(document, path),
        assumptions=_passed_over(document, wrapper),
    )


def _folder_complaint(path: Path) -> str:
    found = sorted(path.glob("fold_*/checkpoint_final.pth"))
    hint = f", for example {found[0]}" if found else ""
    return f"{path} is a folder; give the checkpoint file itself{hint}"


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtraError(
            "reading .safetensors needs the safetensors package: pip install 'segmaformer[export]'"
        ) from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None


def _load_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_scalar_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of what it is about to refuse
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise InputError(_pickle_complaint(path, str(error))) from None


def _pickle_complaint(path: Path, reason: str) -> str:
    """Explain PyTorch's refusal without repeating its advice to lift the restriction."""
    refused = re.search(r"GLOBAL (\S+)", reason)
    if refused:
        return (
            f"{path} asks to load {refused[1]}, which is more than tensors, numbers and text; such "
            "a file can run programs, so it was not opened. Where it was written and is trusted, "
            "save the weights alone, torch.save(model.state_dict(), 'weights.pth'), and give that"
        )
    detail = reason.rpartition("WeightsUnpickler error: ")[2].strip()
    sentence = re.split(r"\.\s", detail, maxsplit=1)[0].partition("\n")[0]
    return (
        f"{path} is no readable checkpoint" + (f" ({sentence})" if " " in sentence else "") + "; "
        "expected a file that torch.save has written, of tensors, numbers and text. If it is one, "
        "it is damaged: copy it again"
    )


def _find_weights(
    document: Mapping[Any, Any], path: Path
) -> tuple[str | None, dict[str, torch.Tensor]]:
    """Weights and the key that they stand under; None where they are the document itself."""
    for wrapper in WRAPPERS:
        if _is_state_dict(document.get(wrapper)):
            return wrapper, dict(document[wrapper])
    if _is_state_dict(document):
        return None, dict(document)
    raise InputError(
        f"{path} holds no weights: expected tensors, or a dictionary of tensors under "
        f"{', '.join(WRAPPERS)}; found {_some(document)}"
    )


def _passed_over(document: Mapping[Any, Any], wrapper: str | None) -> tuple[str, ...]:
    """Say which other weights, such as an average over the training, were not taken."""
    if wrapper is None:
        return ()
    names = set(document[wrapper])
    others = [
        repr(key)
        for key, value in document.items()
        if key != wrapper and _is_state_dict(value) and names & set(value)
    ]
    if not others:
        return ()
    return (
        f"Weights: those under {wrapper!r}. The file also has some under {', '.join(others)}; to "
        "use those, save them alone.",
    )


def _is_state_dict(candidate: Any) -> TypeGuard[Mapping[str, torch.Tensor]]:
    return (
        isinstance(candidate, Mapping)
        and bool(candidate)
        and all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in candidate.items()
        )
    )


def _some(document: Mapping[Any, Any]) -> str:
    names = [repr(key) for key in document]
    return (", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) or "an empty dictionary"


def strip_prefix(
    weights: Mapping[str, torch.Tensor], pattern: str, path: Path
) -> dict[str, torch.Tensor]:
    """Weights without what matches the regular expression `pattern` in front of their names.

    Raises
    ------
    InputError
        Two weights would get the same name.
    """
    stripped = {re.sub(rf"^(?:{pattern})", "", key): key for key in weights}
    if len(stripped) < len(weights):
        twice = next(key for key in weights if key not in stripped.values())
        raise InputError(
            f"{path} holds the same weights twice: {twice} also occurs with another prefix; "
            "save one state_dict only"
        )
    return {name: weights[key] for name, key in stripped.items()}


def _check_tensors(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Refuse what is no ordinary array of numbers, including sizes that the file does not back."""
    for key, tensor in weights.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.device.type != "cpu":
            raise InputError(
                f"{path}: {key} is quantised, sparse or without data; save plain weights"
            )
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise InputError(f"{path}: {key} claims {tuple(tensor.shape)} values but stores fewer")


def _optional(document: Mapping[Any, Any], key: str, kind: type, path: Path) -> Any:
    value = document.get(key)
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{path}: {key} is a {type(value).__name__}; expected a {kind.__name__}")
    return value


def _mirror_axes(document: Mapping[Any, Any], path: Path) -> tuple[int, ...] | None:
    value = document.get("inference_allowed_mirroring_axes")
    if value is None:
        # nnU-Net writes None for "no mirroring"; other programs do not write the key at all
        return () if "inference_allowed_mirroring_axes" in document else None
    axes = integers(value, f"{path}: inference_allowed_mirroring_axes")
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        raise InputError(
            f"{path}: inference_allowed_mirroring_axes is {axes}; expected some of 0, 1 and 2, "
            "each once"
        )
    return axes
