"""Forms in which training programs wrap weights, and the right reading of each."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import describe_checkpoint, load_checkpoint
from segmaformer.checkpoint.files.container import read_checkpoint_file
from segmaformer.checkpoint.weight_sets import choose_weights
from segmaformer.runtime.errors import InputError

Weights = dict[str, Any]


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def wrapped_inside(weights: Weights, wrapper: str) -> Weights:
    """Return names of a network of which parts were wrapped, as by torch.compile on the encoder."""
    return {
        name.replace("encoder.", f"encoder.{wrapper}.").replace("attn.", f"attn.{wrapper}."): tensor
        for name, tensor in weights.items()
    }


def counted(weights: Weights) -> Weights:
    """Add the counters that thop registers in every module."""
    counts = {
        f"{name.rpartition('.')[0]}.{counter}": torch.zeros(1, dtype=torch.float64)
        for name in weights
        for counter in ("total_ops", "total_params")
    }
    return {**weights, **counts, "total_ops": torch.zeros(1), "total_params": torch.zeros(1)}


LOSS = {"loss.weight": torch.ones(3)}
ADAM = {"state": {0: {"step": torch.ones(1), "exp_avg": torch.ones(4)}}, "param_groups": []}
DOTLESS = "model_ema."

ACCEPTED: dict[str, tuple[Callable[[Weights], Any], str | None]] = {
    # name: (what is saved, what the report says of it or None where that is nothing)
    "bare": (lambda w: w, None),
    "ordered": (lambda w: collections.OrderedDict(w), None),
    "parameters": (lambda w: {k: torch.nn.Parameter(v) for k, v in w.items()}, None),
    "network_weights": (lambda w: {"network_weights": w, "current_epoch": 3}, None),
    "state_dict": (lambda w: {"state_dict": w, "optimizer": ADAM}, None),
    "model": (lambda w: {"model": w, "epoch": 2}, None),
    "module": (lambda w: {"module": w}, None),
    "model_state_dict": (lambda w: {"model_state_dict": w, "loss": 0.1}, None),
    "net": (lambda w: {"net": w, "epoch": 3}, "those under 'net'."),
    "network": (lambda w: {"network": w}, "those under 'network'."),
    "params": (lambda w: {"params": w}, "those under 'params'."),
    "state": (lambda w: {"state": w, "optim": ADAM}, "those under 'state'."),
    "any key": (lambda w: {"my run #7": w}, "those under 'my run #7'."),
    "two deep": (lambda w: {"model": {"state_dict": w}}, "those under 'model.state_dict'."),
    "three deep": (lambda w: {"a": {"b": {"c": w}}}, "those under 'a.b.c'."),
    "twice the same dictionary": (lambda w: {"model": w, "state_dict": w}, None),
    "ddp": (lambda w: prefixed("module.", w), None),
    "compiled": (lambda w: prefixed("_orig_mod.", w), None),
    "ddp of compiled": (lambda w: prefixed("module._orig_mod.", w), None),
    "compiled of ddp": (lambda w: prefixed("_orig_mod.module.", w), None),
    "compiled in lightning": (lambda w: {"state_dict": prefixed("model._orig_mod.", w)}, None),
    "ddp around lightning": (lambda w: {"state_dict": prefixed("module.model.", w)}, None),
    "compiled parts": (lambda w: wrapped_inside(w, "_orig_mod"), None),
    "ddp parts": (lambda w: prefixed("net.", wrapped_inside(w, "module")), None),
    "fsdp": (lambda w: wrapped_inside(w, "_fsdp_wrapped_module"), None),
    "activation checkpoints": (lambda w: wrapped_inside(w, "_checkpoint_wrapped_module"), None),
    "lightning": (lambda w: {"state_dict": prefixed("model.", w), "epoch": 1}, None),
    "net.": (lambda w: prefixed("net.", w), None),
    "network.": (lambda w: {"state_dict": prefixed("network.", w)}, None),
    "deep prefix": (lambda w: prefixed("trainer.student.backbone.", w), None),
    "lightning with a loss": (
        lambda w: {"state_dict": {**prefixed("model.", w), **LOSS}},
        "'model.' under 'state_dict'. Left out, as no part of these: loss.weight.",
    ),
    "bare prefix with a loss": (
        lambda w: {**prefixed("model.", w), **LOSS},
        "names that begin with 'model.'. Left out, as no part of these: loss.weight.",
    ),
    "deep prefix with a loss": (
        lambda w: {"state_dict": {**prefixed("m._orig_mod.", w), **LOSS}},
        "'m._orig_mod.' under 'state_dict'. Left out, as no part of these: loss.weight.",
    ),
    "lightning with metrics": (
        lambda w: {
            "state_dict": {
                **prefixed("model.", w),
                **{f"metric.stage.{number}": torch.ones(2) for number in range(7)},
            }
        },
        "Left out, as no part of these: metric.* (7).",
    ),
    "average that only its writer reads": (
        lambda w: {
            "state_dict": {
                **prefixed("model.", w),
                **{DOTLESS + k.replace(".", ""): v for k, v in w.items()},
            }
        },
        "Left out, as no part of these: model_ema.* (",
    ),
    "average as a list": (lambda w: {"model": w, "ema": {"shadow_params": [*w.values()]}}, None),
    "swa": (
        lambda w: {**prefixed("module.", w), "n_averaged": torch.tensor(7)},
        "names that begin with 'module.'. Left out, as no part of these: n_averaged.",
    ),
    "swa without its prefix": (
        lambda w: {**w, "n_averaged": torch.tensor(7)},
        "all names. Left out, as no part of these: n_averaged.",
    ),
    "thop": (counted, "*.total_ops ("),
    "thop in lightning": (lambda w: {"state_dict": prefixed("model.", counted(w))}, "*.total_par"),
    "numbers beside weights": (
        lambda w: {**w, "epoch": 3},
        "Left out, as no part of these: epoch.",
    ),
    "another network's dictionary": (
        lambda w: {"generator": w, "critic": {"conv.weight": torch.ones(2)}},
        "those under 'generator'. Left out, as no part of these: all under 'critic'.",
    ),
    "half of a copy": (
        lambda w: {**prefixed("model.", w), "ema.decoder.pred.bias": w["decoder.pred.bias"]},
        "Left out, as no part of these: ema.decoder.pred.bias.",
    ),
    "best scores of lightning": (
        lambda w: {
            "state_dict": prefixed("model.", w),
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
        },
        None,
    ),
}

REFUSED: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "average beside the model": (
        lambda w: {"state_dict": {**prefixed("model.", w), **prefixed("ema_model.", w)}},
        "2 sets of weights: names that begin with 'model.' under 'state_dict' .*"
        "'ema_model.' under 'state_dict' .*"
        "choose with --weights state_dict.model or --weights state_dict.ema_model",
    ),
    "model_ema.": (
        lambda w: {**prefixed("model.", w), **prefixed("model_ema.module.", w)},
        "'model.' .* and --weights model_ema.module|--weights model or --weights model_ema.module",
    ),
    "average within the prefix": (
        lambda w: prefixed("model.", {**w, **prefixed("ema.", w)}),
        "--weights model or --weights model.ema",
    ),
    "average beside bare weights": (
        lambda w: {**w, **prefixed("ema.", w)},
        r"all names \(SegMaFormer\), names that begin with 'ema.' .*--weights \. or --weights ema",
    ),
    "timm": (
        lambda w: {"state_dict": w, "state_dict_ema": dict(w)},
        "those under 'state_dict' .* those under 'state_dict_ema'.*--weights state_dict_ema",
    ),
    "average in a callback": (
        lambda w: {"state_dict": w, "callbacks": {"EMA": {"weights": dict(w)}}},
        "those under 'callbacks.EMA.weights'",
    ),
    "teacher and student": (
        lambda w: {"student": w, "teacher": {k: v + 1 for k, v in w.items()}},
        "--weights student or --weights teacher",
    ),
    "with and without a wrapper": (
        lambda w: {**w, **prefixed("module.", w)},
        r"--weights \. or --weights module",
    ),
    "ensemble": (
        lambda w: {f"fold_{fold}": dict(w) for fold in range(12)},
        "12 sets of weights.* and 2 more",
    ),
    "surplus within the prefix": (
        lambda w: {**prefixed("model.", w), "model.head.weight": torch.ones(3)},
        r"it also has head\.weight",
    ),
    "surplus beside bare weights": (lambda w: {**w, **LOSS}, r"it also has loss\.weight"),
    "counters with values": (
        lambda w: {**w, "encoder.total_ops": torch.ones(3)},
        r"it also has encoder\.total_ops",
    ),
    "one missing": (
        lambda w: {k: v for k, v in w.items() if k != "decoder.pred.bias"},
        r"it lacks decoder\.pred\.bias",
    ),
    "one weight under two wrappers": (
        lambda w: {**w, "decoder.module.pred.bias": w["decoder.pred.bias"]},
        "same weight twice, as decoder.pred.bias and as decoder.module.pred.bias",
    ),
    "sparse": (
        lambda w: {**w, "decoder.pred.bias": w["decoder.pred.bias"].to_sparse()},
        "quantised, sparse or without data",
    ),
    "without data": (
        lambda w: {**w, "decoder.pred.bias": torch.zeros(3, device="meta")},
        "quantised, sparse or without data",
    ),
    "one value for many": (
        lambda w: {**w, "decoder.pred.bias": torch.zeros(1).expand(10**12)},
        "claims .* values but stores fewer",
    ),
    "no network": (lambda w: {"x": {"conv.weight": torch.ones(2)}}, r"\(under 'x'\): the weights"),
    "too deep": (lambda w: {"a": {"b": {"c": {"d": {"e": w}}}}}, "holds no weights"),
    "a list": (lambda w: [w], "holds a list"),
    "only numbers": (lambda w: {"epoch": 3}, "holds no weights.*found 'epoch'"),
    "only an optimizer": (lambda w: {"optimizer": ADAM}, "holds no weights"),
}


def save(folder: Path, document: Any) -> Path:
    torch.save(document, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def assert_same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", ACCEPTED)
def test_wrappings_that_are_accepted(tmp_path: Path, tiny_weights: Weights, name: str) -> None:
    wrap, sentence = ACCEPTED[name]
    chosen = choose_weights(read_checkpoint_file(save(tmp_path, wrap(dict(tiny_weights)))))
    assert chosen.arch.name == "segmaformer"
    assert_same(chosen.weights, tiny_weights)
    if sentence is None:
        assert chosen.sentences == ()
    else:
        (found,) = chosen.sentences
        assert sentence in found


@pytest.mark.parametrize("name", REFUSED)
def test_wrappings_that_are_refused(tmp_path: Path, tiny_weights: Weights, name: str) -> None:
    wrap, complaint = REFUSED[name]
    with pytest.raises(InputError, match=complaint) as refusal:
        load_checkpoint(save(tmp_path, wrap(dict(tiny_weights))))
    assert "damage" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        ("state_dict.model", 0),
        ("model", 0),
        ("model.", 0),
        ("state_dict.ema", 1),
        ("ema", 1),
        ("averaged", 2),
    ],
)
def test_a_set_is_chosen(tmp_path: Path, tiny_weights: Weights, key: str, taken: int) -> None:
    sets = [{name: t + number for name, t in tiny_weights.items()} for number in range(3)]
    document = {
        "state_dict": {**prefixed("model.", sets[0]), **prefixed("ema.module.", sets[1]), **LOSS},
        "averaged": sets[2],
    }
    path = save(tmp_path, document)
    chosen = choose_weights(read_checkpoint_file(path), key=key)
    assert_same(chosen.weights, sets[taken])
    (sentence,) = chosen.sentences
    assert "Left out, as no part of these: " in sentence


def test_what_is_left_out_is_said(tmp_path: Path, tiny_weights: Weights) -> None:
    document = {"last": {**prefixed("net.", tiny_weights), **LOSS}, "mean": dict(tiny_weights)}
    path = save(tmp_path, document)
    sentence = (
        "Weights: names that begin with 'net.' under 'last'. Left out, as no part of these: "
        "loss.weight, all under 'mean'."
    )
    assert sentence in load_checkpoint(path, weights="last").assumptions
    assert sentence in describe_checkpoint(path, weights="last")["assumptions"]


@pytest.mark.parametrize(("key", "added"), [(".", 0), ("ema", 1), ("model.", 2)])
def test_sets_within_one_another_are_told_apart(
    tmp_path: Path, tiny_weights: Weights, key: str, added: int
) -> None:
    sets = [{name: t + number for name, t in tiny_weights.items()} for number in range(3)]
    document = {**sets[0], **prefixed("ema.", sets[1]), **prefixed("model.", sets[2])}
    chosen = choose_weights(read_checkpoint_file(save(tmp_path, document)), key=key)
    assert_same(chosen.weights, sets[added])


def test_a_key_that_fits_several_sets(tmp_path: Path, tiny_weights: Weights) -> None:
    both = {**prefixed("a.", tiny_weights), **prefixed("b.", tiny_weights)}
    with pytest.raises(InputError, match=r"choose with --weights x\.a or --weights x\.b"):
        load_checkpoint(save(tmp_path, {"x": both}), weights="x")


@pytest.mark.parametrize("key", ["none", "", "epoch", "state_dict.model.encoder"])
def test_a_key_without_weights(tmp_path: Path, tiny_weights: Weights, key: str) -> None:
    document = {"state_dict": prefixed("model.", tiny_weights), "epoch": 3}
    with pytest.raises(
        ValueError, match=r"no weights of a known network under .*state_dict\.model"
    ):
        load_checkpoint(save(tmp_path, document), weights=key)


def test_keys_are_quoted_for_the_shell(tmp_path: Path, tiny_weights: Weights) -> None:
    document = {"EMA {'decay': 1}": tiny_weights, "model": dict(tiny_weights)}
    with pytest.raises(InputError, match="--weights model") as refusal:
        load_checkpoint(save(tmp_path, document))
    assert """--weights 'EMA {'"'"'decay'"'"': 1}'""" in str(refusal.value)


def test_the_network_asked_for_decides_between_sets(tmp_path: Path, tiny_weights: Weights) -> None:
    document = {"student": tiny_weights, "teacher": {"vit.stages.0.0.mamba.A_b_log": torch.ones(1)}}
    path = save(tmp_path, document)
    assert load_checkpoint(path, arch="segmaformer").arch == "segmaformer"
    with pytest.raises(InputError, match=r"SegMaFormer.*SegMamba.*--weights teacher"):
        load_checkpoint(path)
