from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.networks.published import SEGMAFORMER_CASES, published_case

torch = pytest.importorskip("torch")

from segmaformer.checkpoint import Checkpoint, load_checkpoint
from segmaformer.models import create_model
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Label, Normalization, Tiling

Document = dict[str, Any]
TILE = (32, 32, 32)


def save(folder: Path, document: Any, name: str = "checkpoint_final.pth") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(document, folder / name)
    return folder / name


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def mentions(checkpoint: Checkpoint, *words: str) -> bool:
    return any(all(word in text for word in words) for text in checkpoint.assumptions)


def test_nnunet_checkpoint_tells_everything(tmp_path: Path, nnunet_document: Document) -> None:
    path = save(tmp_path, nnunet_document)
    checkpoint = load_checkpoint(path)
    assert checkpoint.arch == "segmaformer"
    assert checkpoint.trainer == nnunet_document["trainer_name"]
    assert checkpoint.tiling == Tiling((16, 24, 32), mirror_axes=(0, 1, 2))
    assert checkpoint.preprocessing.channels == ("T1", "CT")
    assert checkpoint.labels == (Label(0, "background"), Label(1, "left"), Label(2, "right"))
    assert checkpoint.parameters == sum(
        tensor.numel() for tensor in nnunet_document["network_weights"].values()
    )
    assert mentions(checkpoint, "plans.json: from the checkpoint")
    assert mentions(checkpoint, "num_heads", "the published default")
    assert len(checkpoint.sha256) == 64


def test_plans_state_the_network(tmp_path: Path, nnunet_document: Document) -> None:
    plans = nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plans["architecture"] = {
        "network_class_name": "networks.SegMaFormer",
        "arch_kwargs": {"num_heads": [1, 2, 4, 5], "use_rope": False},
    }
    checkpoint = load_checkpoint(save(tmp_path, nnunet_document))
    assert checkpoint.config["num_heads"] == [1, 2, 4, 5]
    assert checkpoint.config["use_rope"] is False
    assert not mentions(checkpoint, "num_heads")


def test_plans_of_another_network_are_not_believed(
    tmp_path: Path, nnunet_document: Document
) -> None:
    plans = nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plans["architecture"] = {
        "network_class_name": "dynamic_network_architectures.PlainConvUNet",
        "arch_kwargs": {"n_stages": 6},
    }
    assert load_checkpoint(save(tmp_path, nnunet_document)).arch == "segmaformer"


def test_plans_with_a_key_the_network_lacks_are_refused(
    tmp_path: Path, nnunet_document: Document
) -> None:
    plans = nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plans["architecture"] = {"network_class_name": "SegMaFormer", "arch_kwargs": {"headz": 3}}
    with pytest.raises(InputError, match="headz"):
        load_checkpoint(save(tmp_path, nnunet_document))


def test_model_is_ready_and_computes_the_same(tmp_path: Path, tiny_config: Document) -> None:
    torch.manual_seed(1)
    model = create_model("segmaformer", **tiny_config).eval()
    checkpoint = load_checkpoint(save(tmp_path, model.state_dict()), patch_size=TILE)
    volume = torch.randn(1, 2, *TILE)
    with torch.no_grad():
        assert torch.equal(checkpoint.model(volume), model(volume))
    assert not checkpoint.model.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_becomes_float32(tmp_path: Path, tiny_weights: Document, dtype: Any) -> None:
    stored = {key: tensor.to(dtype) for key, tensor in tiny_weights.items()}
    model = load_checkpoint(save(tmp_path, stored)).model
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[key].float())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net._orig_mod.", "a.b."])
def test_prefixes(tmp_path: Path, tiny_weights: Document, prefix: str) -> None:
    weights = {prefix + key: tensor for key, tensor in tiny_weights.items()}
    checkpoint = load_checkpoint(save(tmp_path, {"state_dict": weights}, "last.ckpt"))
    assert set(checkpoint.model.state_dict()) == set(tiny_weights)


def test_safetensors(tmp_path: Path, tiny_weights: Document) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(tiny_weights, tmp_path / "model.safetensors")
    model = load_checkpoint(tmp_path / "model.safetensors").model
    assert torch.equal(model.state_dict()["decoder.pred.bias"], tiny_weights["decoder.pred.bias"])


@pytest.mark.parametrize("name", SEGMAFORMER_CASES)
def test_published_weights_load_and_compute_what_was_published(
    tmp_path: Path, golden_dir: Path, name: str
) -> None:
    case = published_case(golden_dir, name)
    weights = case.load_into(create_model(case.arch, **case.config)).state_dict()
    checkpoint = load_checkpoint(save(tmp_path, {"state_dict": weights}))
    with torch.no_grad():
        logits = checkpoint.model(torch.from_numpy(case.tiles)).numpy()
    assert case.error(logits) <= 4


def test_weights_alone_give_a_network_but_not_its_use(
    tmp_path: Path, tiny_weights: Document
) -> None:
    checkpoint = load_checkpoint(save(tmp_path, tiny_weights))
    assert checkpoint.config["in_channels"] == 2
    assert [label.name for label in checkpoint.labels] == ["background", "label 1", "label 2"]
    assert checkpoint.preprocessing.orientation == "RAS"
    assert checkpoint.preprocessing.spacing is None
    assert checkpoint.preprocessing.normalization == (Normalization("zscore"),) * 2
    with pytest.raises(InputError, match=r"does not tell the patch size.*plans.*patch_size"):
        _ = checkpoint.tiling
    for words in (("Preprocessing", "RAS"), ("Output", "unnamed"), ("Mirroring", "none")):
        assert mentions(checkpoint, *words)


def test_patch_size_completes_weights_alone(tmp_path: Path, tiny_weights: Document) -> None:
    checkpoint = load_checkpoint(save(tmp_path, tiny_weights), patch_size=[32, 48, 32])
    assert checkpoint.tiling == Tiling((32, 48, 32))


def test_brats_defaults(tmp_path: Path, tiny_config: Document) -> None:
    model = create_model("segmaformer", **{**tiny_config, "in_channels": 4})
    checkpoint = load_checkpoint(save(tmp_path, model.state_dict()))
    assert checkpoint.preprocessing.channels == ("Flair", "T1", "T1ce", "T2")
    assert [(r.name, r.labels, r.value) for r in checkpoint.output.regions] == [
        ("whole tumor", (1, 2, 3), 1),
        ("tumor core", (2, 3), 2),
        ("enhancing tumor", (3,), 3),
    ]
    assert mentions(checkpoint, "BraTS regions")
    assert mentions(checkpoint, "Flair")


def test_one_class_is_a_mask(tmp_path: Path, tiny_config: Document) -> None:
    model = create_model("segmaformer", **{**tiny_config, "num_classes": 1})
    checkpoint = load_checkpoint(save(tmp_path, model.state_dict()))
    assert checkpoint.output.channels == 1
    assert [label.value for label in checkpoint.labels] == [0, 1]


def test_ct_is_not_guessed(tmp_path: Path, tiny_config: Document, dataset: Document) -> None:
    abdomen = create_model("segmaformer", **{**tiny_config, "in_channels": 1, "num_classes": 14})
    path = save(tmp_path, abdomen.state_dict())
    checkpoint = load_checkpoint(path, patch_size=TILE)
    with pytest.raises(InputError, match=r"without plans.json the intensities"):
        _ = checkpoint.preprocessing
    labels = {f"organ {value}": value for value in range(14)}
    for name, known in (("CT", False), ("MRI", True)):
        dataset |= {"channel_names": {"0": name}, "labels": labels}
        given = write(tmp_path / "given.json", dataset)
        assert (load_checkpoint(path, dataset_json=given).known_preprocessing is not None) is known


@pytest.mark.parametrize("beside", ["fold_0", "."])
def test_documents_beside_the_checkpoint(
    tmp_path: Path, tiny_weights: Document, plans: Document, dataset: Document, beside: str
) -> None:
    path = save(tmp_path / beside, tiny_weights)
    write(tmp_path / "plans.json", plans)
    write(tmp_path / "dataset.json", dataset)
    checkpoint = load_checkpoint(path)
    assert checkpoint.tiling.tile == (16, 24, 32)
    assert checkpoint.labels[1].name == "left"
    assert mentions(checkpoint, "plans.json", "beside the checkpoint")


def test_documents_of_unrelated_parents_are_not_read(
    tmp_path: Path, tiny_weights: Document, plans: Document
) -> None:
    path = save(tmp_path / "weights", tiny_weights)
    write(tmp_path / "plans.json", plans)
    assert load_checkpoint(path).known_tiling is None


def test_given_wins_over_inside_wins_over_beside(
    tmp_path: Path, nnunet_document: Document, plans: Document, dataset: Document
) -> None:
    path = save(tmp_path, nnunet_document)
    plans["configurations"]["3d_fullres"]["patch_size"] = [64, 64, 64]
    dataset["labels"] = {"background": 0, "up": 1, "down": 2}
    beside, label_file = (
        write(tmp_path / "plans.json", plans),
        write(tmp_path / "dataset.json", dataset),
    )
    inside = load_checkpoint(path)
    assert (inside.tiling.tile, inside.labels[1].name) == ((16, 24, 32), "left")
    given = load_checkpoint(path, plans=beside, dataset_json=label_file)
    assert (given.tiling.tile, given.labels[1].name) == ((64, 64, 64), "up")
    assert mentions(given, "plans.json", str(beside), "not from inside")


def test_configuration_from_inside_or_given(
    tmp_path: Path, nnunet_document: Document, plans: Document
) -> None:
    configurations = nnunet_document["init_args"]["plans"]["configurations"]
    configurations["3d_lowres"] = {"inherits_from": "3d_fullres", "patch_size": [32, 32, 32]}
    path = save(tmp_path, nnunet_document)
    assert load_checkpoint(path).tiling.tile == (16, 24, 32)
    assert "Configuration of the plans: 3d_fullres." in load_checkpoint(path).assumptions
    other = load_checkpoint(path, configuration="3d_lowres")
    assert other.tiling.tile == (32, 32, 32)
    contradiction = "3d_lowres, as given, although the checkpoint is of 3d_fullres."
    assert f"Configuration of the plans: {contradiction}" in other.assumptions
    with pytest.raises(InputError, match="no configuration '3d_high'; it has 2d, 3d_fullres"):
        load_checkpoint(path, configuration="3d_high")


def test_configuration_without_plans_is_the_callers_mistake(
    tmp_path: Path, tiny_weights: Document
) -> None:
    with pytest.raises(ValueError, match=r"'3d_fullres' is one of plans.json, and there is none"):
        load_checkpoint(save(tmp_path, tiny_weights), configuration="3d_fullres")


def test_given_patch_size_wins_and_is_stated(tmp_path: Path, nnunet_document: Document) -> None:
    path = save(tmp_path, nnunet_document)
    checkpoint = load_checkpoint(path, patch_size=(32, 32, 32))
    assert checkpoint.tiling.tile == (32, 32, 32)
    assert mentions(checkpoint, "(32, 32, 32) as given", "(16, 24, 32)")
    assert not mentions(load_checkpoint(path, patch_size=(16, 24, 32)), "as given")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("nnunet", True, 0.5)),
        ({"tiling": "monai-constant"}, ("monai", False, 0.5)),
        ({"tiling": "monai-gaussian", "overlap": 0.25}, ("monai", True, 0.75)),
        ({"tiling": "nnunet", "overlap": 0.0}, ("nnunet", True, 1.0)),
        ({"overlap": 0.7}, ("nnunet", True, 1 - 0.7)),
    ],
)
def test_tiling_can_be_given_and_is_stated(
    tmp_path: Path, nnunet_document: Document, options: Any, expected: tuple[Any, ...]
) -> None:
    checkpoint = load_checkpoint(save(tmp_path, nnunet_document), **options)
    tiling = checkpoint.tiling
    assert (tiling.scheme, tiling.gaussian, tiling.step) == expected
    assert tiling.tile == (16, 24, 32)
    owner = "MONAI's" if tiling.scheme == "monai" else "nnU-Net's"
    assert mentions(checkpoint, f"Tiles: {owner}", "as given") is bool(options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tiling": "monai"}, "unknown tiling 'monai'; expected one of nnunet, monai-constant"),
        ({"overlap": 1.0}, "overlap is 1; expected a fraction of the tile"),
        ({"overlap": -0.1}, "overlap is -0.1"),
        ({"overlap": float("nan")}, "overlap is nan"),
    ],
)
def test_bad_tiling_is_the_callers_mistake(tmp_path: Path, options: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_checkpoint(tmp_path / "none.pth", **options)


def test_configuration_can_be_given(tmp_path: Path, tiny_weights: Document) -> None:
    path = save(tmp_path, tiny_weights)
    checkpoint = load_checkpoint(path, config={"num_heads": [1, 2, 4, 4], "use_rope": False})
    assert checkpoint.config["num_heads"] == [1, 2, 4, 4]
    assert checkpoint.config["use_rope"] is False
    assert not mentions(checkpoint, "num_heads")
    assert not mentions(checkpoint, "use_rope")


def test_bad_configuration_is_the_callers_mistake(tmp_path: Path, tiny_weights: Document) -> None:
    path = save(tmp_path, tiny_weights)
    with pytest.raises(ValueError, match="no configuration key colour"):
        load_checkpoint(path, config={"colour": 1})
    with pytest.raises(ValueError, match="attention heads"):
        load_checkpoint(path, config={"num_heads": [1, 1, 1, 7]})
    with pytest.raises(ValueError, match="unknown network 'unet'"):
        load_checkpoint(path, arch="unet")
    with pytest.raises(InputError, match="this is a SegMaFormer checkpoint, not segmamba"):
        load_checkpoint(path, arch="segmamba")


@pytest.mark.parametrize("tile", [(32, 32), (32, 32, 0), (1, 2, 3, 4), ()])
def test_bad_patch_size_is_the_callers_mistake(tmp_path: Path, tile: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected depth, height and width"):
        load_checkpoint(tmp_path / "none.pth", patch_size=tile)


@pytest.mark.parametrize("option", ["plans", "dataset_json"])
def test_unreadable_documents(tmp_path: Path, tiny_weights: Document, option: str) -> None:
    path = save(tmp_path, tiny_weights)
    broken = tmp_path / "broken.json"
    with pytest.raises(FileNotFoundError, match=r"broken\.json"):
        load_checkpoint(path, **{option: broken})
    for content, complaint in (
        ("{", "is not JSON"),
        ("\xff", "is not JSON"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.* Run `git lfs pull`"),
        ("<!DOCTYPE html><html></html>", "an HTML page"),
        ("[1]", "expected a d"),
    ):
        broken.write_text(content, encoding="latin-1")
        with pytest.raises(InputError, match=complaint):
            load_checkpoint(path, **{option: broken})


def test_missing_surplus_and_misshapen_weights(tmp_path: Path, tiny_weights: Document) -> None:
    weights = dict(tiny_weights)
    del weights["encoder.norm4.bias"]
    weights["encoder.norm4.scale"] = torch.ones(3)
    weights["encoder.norm4.weight"] = torch.ones(5)
    with pytest.raises(InputError) as refusal:
        load_checkpoint(save(tmp_path, weights))
    text = str(refusal.value)
    assert "it lacks encoder.norm4.bias;" in text
    assert "it also has encoder.norm4.scale;" in text
    assert "encoder.norm4.weight (5,) instead of (60,)" in text


def test_long_lists_of_names_are_cut(tmp_path: Path, tiny_weights: Document) -> None:
    surplus = {f"head.{number}": torch.ones(1) for number in range(25)}
    with pytest.raises(
        InputError, match=r"head\.9 and 15 more\. If these .* save the weights"
    ) as refusal:
        load_checkpoint(save(tmp_path, {**tiny_weights, **surplus}))
    assert "head.10" not in str(refusal.value)


def test_weights_that_do_not_fit_together_are_never_allocated(tmp_path: Path) -> None:
    shapes = {f"encoder.embed_{stage}.proj.weight": (300_000, 1, 1, 1, 1) for stage in range(1, 5)}
    for stage in range(1, 5):
        shapes[f"encoder.stage{stage}.0.attn.query.weight"] = (1, 1)
        shapes[f"encoder.stage{stage}.0.mlp.fc1.weight"] = (300_000, 1)
    shapes |= {"decoder.linears.0.proj.weight": (1, 1), "decoder.pred.weight": (1, 1, 1, 1, 1)}
    weights = {key: torch.zeros(shape) for key, shape in shapes.items()}
    with pytest.raises(InputError, match="does not fit the network: it lacks"):
        load_checkpoint(save(tmp_path, weights))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, tiny_weights: Document, value: float) -> None:
    bias = tiny_weights["decoder.pred.bias"].clone()
    bias[1] = value
    with pytest.raises(InputError, match=r"decoder\.pred\.bias holds NaN or infinite"):
        load_checkpoint(save(tmp_path, {**tiny_weights, "decoder.pred.bias": bias}))


def test_weights_that_overflow_float32(tmp_path: Path, tiny_weights: Document) -> None:
    bias = tiny_weights["decoder.pred.bias"].double() + 1e300
    with pytest.raises(InputError, match=r"decoder\.pred\.bias holds NaN or infinite"):
        load_checkpoint(save(tmp_path, {**tiny_weights, "decoder.pred.bias": bias}))


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn", "float8_e5m2", "complex64"])
def test_weights_that_are_no_plain_floats(
    tmp_path: Path, tiny_weights: Document, name: str
) -> None:
    bias = tiny_weights["decoder.pred.bias"].to(getattr(torch, name))
    with pytest.raises(InputError, match=rf"decoder\.pred\.bias is stored as torch\.{name}"):
        load_checkpoint(save(tmp_path, {**tiny_weights, "decoder.pred.bias": bias}))


def test_another_network(tmp_path: Path) -> None:
    path = save(tmp_path, {"vit.stages.0.0.mamba.A_b_log": torch.ones(1)})
    with pytest.raises(InputError, match="this is a SegMamba checkpoint, not segmaformer"):
        load_checkpoint(path, arch="segmaformer")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("channel_names", {"0": "T1"}, "takes 2 channels, but dataset.json names 1"),
        ("labels", {"background": 0, "a": 1}, "has 3 outputs, but dataset.json has 2 labels"),
        ("labels", {"a": [1, 2], "b": 1}, "has 3 outputs, but dataset.json has 2 regions"),
    ],
)
def test_dataset_in_contradiction_to_the_weights(
    tmp_path: Path, nnunet_document: Document, key: str, value: Any, complaint: str
) -> None:
    nnunet_document["init_args"]["dataset_json"] |= {key: value, "regions_class_order": [1, 2]}
    with pytest.raises(InputError, match=complaint):
        load_checkpoint(save(tmp_path, nnunet_document))


def test_plans_in_contradiction_to_the_weights(tmp_path: Path, nnunet_document: Document) -> None:
    plan = nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plan |= {"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False]}
    with pytest.raises(InputError, match="normalises 1 channels, but the scans have 2"):
        load_checkpoint(save(tmp_path, nnunet_document))


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("num_heads", [0, 1, 1, 2], "plans.json: num_heads is .* more than zero"),
        ("use_rope", "off", "plans.json: use_rope is 'off'; expected true or false"),
        ("patch_stride", 2, "plans.json: patch_stride is 2; expected a list"),
    ],
)
def test_plans_with_values_of_another_kind(
    tmp_path: Path, nnunet_document: Document, key: str, value: Any, complaint: str
) -> None:
    plan = nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plan["architecture"] = {"network_class_name": "SegMaFormer", "arch_kwargs": {key: value}}
    with pytest.raises(InputError, match=complaint):
        load_checkpoint(save(tmp_path, nnunet_document))


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("num_heads", [1, 2, 4], "no segmaformer can be built .* num_heads has 3 entries"),
        ("mlp_ratios", [1e300] * 4, "mlp_ratios is .* and at most 100,000,000"),
        ("depths", [10**8] * 4, "the weights are of a SegMaFormer with depths"),
        ("num_classes", 10**8, "say num_classes 100000000, but the weights"),
    ],
)
def test_plans_of_a_network_that_cannot_be(
    tmp_path: Path, nnunet_document: Document, key: str, value: Any, complaint: str
) -> None:
    """Check for an error that is not the caller's, before memory of that size is allocated."""
    plan = nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]
    plan["architecture"] = {"network_class_name": "SegMaFormer", "arch_kwargs": {key: value}}
    with pytest.raises(InputError, match=complaint):
        load_checkpoint(save(tmp_path, nnunet_document))


@pytest.mark.parametrize("value", ["no", 0, None])
def test_settings_of_another_kind_are_not_taken_for_true(
    tmp_path: Path, tiny_weights: Document, value: Any
) -> None:
    with pytest.raises(ValueError, match="; expected true or false"):
        load_checkpoint(save(tmp_path, tiny_weights), config={"use_rope": value})


def test_tile_that_the_network_cannot_take(tmp_path: Path, nnunet_document: Document) -> None:
    path = save(tmp_path, nnunet_document)
    with pytest.raises(InputError, match="a tile of 16x16x16 voxels leaves stage 4"):
        load_checkpoint(path, patch_size=(16, 16, 16))
    nnunet_document["init_args"]["plans"]["configurations"]["3d_fullres"]["patch_size"] = [8, 8, 8]
    with pytest.raises(InputError, match="a tile of 8x8x8 voxels"):
        load_checkpoint(save(tmp_path, nnunet_document))
