"""Networks in .pt2 files: run as PyTorch does, or refused before anything of them is run."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.nnunet_folders import DATASET, TILE, plans

torch = pytest.importorskip("torch")

from torch._export.serde.serialize import serialize

from segmaformer.export.own_network.own_module import program_checkpoint, use_of_plans
from segmaformer.export.own_network.pt2_network import read_pt2_network
from segmaformer.export.pipeline import ExportOptions, export_package
from segmaformer.mamba import stand_in
from segmaformer.runtime.backends import open_session
from segmaformer.runtime.errors import InputError

nn = torch.nn
SHAPE = (1, *TILE)
ROOT = "network/"
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
Members = dict[str, bytes]


class Network(nn.Module):  # type: ignore[misc]
    """Layers, blocks, sizes and constants that programs have."""

    def __init__(self) -> None:
        super().__init__()
        with stand_in():
            from mamba_ssm import Mamba  # type: ignore[import-not-found]
        self.down = nn.Conv3d(1, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm3d(8)
        self.act = nn.LeakyReLU(inplace=True)
        self.drop = nn.Dropout3d(0.5)
        self.mamba = Mamba(8, d_state=4)
        self.up = nn.ConvTranspose3d(8, 3, 2, stride=2)

    def forward(self, x: Any) -> Any:
        x = torch.ops.aten.to.dtype_layout(x, dtype=x.dtype, layout=torch.strided)
        features = self.drop(self.act(self.norm(self.down(x))))
        with torch.no_grad():
            scale = torch.tensor([0.5]) * 2
        with torch.autocast("cpu", enabled=False):
            features = features.to(x.dtype) * scale.to(x.dtype)
        tokens = self.mamba(features.flatten(2).transpose(1, 2))
        first, second = (features + tokens.transpose(1, 2).view_as(features)).chunk(2, dim=1)
        return {"logits": self.up(torch.cat((first, second), 1)), "features": features}


def network() -> Any:
    torch.manual_seed(3)
    return Network().eval()


def exported(*, free: bool = False, model: Any = None, size: tuple[int, ...] = SHAPE) -> Any:
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    example = torch.randn(2 if free else 1, *size)
    return torch.export.export(model or network(), (example,), dynamic_shapes=shapes)


def saved(folder: Path, program: Any) -> Path:
    path = folder / "network.pt2"
    torch.export.save(program, path)
    return path


def older(folder: Path, program: Any) -> Path:
    """Write the archive of PyTorch 2.7 and earlier."""
    parts = serialize(program)
    path = folder / "network.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", parts.exported_program)
        archive.writestr("serialized_state_dict.pt", parts.state_dict)
        archive.writestr("serialized_constants.pt", parts.constants)
        archive.writestr("serialized_example_inputs.pt", parts.example_inputs)
        archive.writestr("version", "8.5")
    return path


@pytest.mark.parametrize("write", [saved, older])
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("decomposed", [False, True])
def test_a_program_computes_what_its_module_does(
    tmp_path: Path, write: Callable[..., Path], free: bool, decomposed: bool
) -> None:
    program = exported(free=free)
    path = write(tmp_path, program.run_decompositions() if decomposed else program)
    found, expected = read_pt2_network(path, SHAPE), network()
    tiles = torch.randn(2 if free else 1, *SHAPE)
    with torch.no_grad():
        for given, logits in zip(found(tiles), expected(tiles).values(), strict=True):
            assert torch.allclose(given, logits, atol=1e-6)
        careful = found.double()(tiles.double())[0]
        assert careful.dtype == torch.float64
        assert torch.allclose(careful, expected.double()(tiles.double())["logits"], atol=1e-5)
    assert {name for name, _ in found.named_parameters()} == {
        name for name, _ in network().named_parameters()
    }


def test_one_tile_at_a_time_stays_so(tmp_path: Path) -> None:
    found = read_pt2_network(saved(tmp_path, exported()), SHAPE)
    with pytest.raises(InputError, match="a batch of one"):
        found(torch.zeros(2, *SHAPE))


def test_a_program_becomes_a_package(tmp_path: Path) -> None:
    path = saved(tmp_path, exported(free=True))
    checkpoint = program_checkpoint(path, use_of_plans(plans(), DATASET), "0" * 64)
    assert checkpoint.path == path
    package = export_package(checkpoint, tmp_path / "own.sgmf", ExportOptions())
    assert "torch.export saved" in package.manifest.network.assumptions[0]
    tile = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    with torch.no_grad():
        expected = network()(torch.from_numpy(tile))["logits"].numpy()
    logits = open_session(package, backend="onnxruntime").run(tile)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))


@pytest.fixture(scope="module")
def genuine() -> Members:
    stream = io.BytesIO()
    torch.export.save(exported(free=True), stream)
    with zipfile.ZipFile(stream) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


class Canary:
    """Payload that leaves a mark where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def edited(members: Members, name: str, change: Callable[[Any], None]) -> None:
    document = json.loads(members[name])
    change(document)
    members[name] = json.dumps(document).encode()


def graph_of(program: Any) -> Any:
    return program["graph_module"]["graph"]


def node_of(program: Any, end: str) -> Any:
    return next(node for node in graph_of(program)["nodes"] if node["target"].endswith(end))


def pickled(which: str) -> Callable[[Members, Path], None]:
    def change(members: Members, canary: Path) -> None:
        payload = next(iter(json.loads(members[which])["config"].values()))
        stream = io.BytesIO()
        torch.save(Canary(canary), stream)
        folder = which.rpartition("/")[0]
        members[f"{folder}/{payload['path_name']}"] = stream.getvalue()
        edited(members, which, lambda it: next(iter(it["config"].values())).update(use_pickle=True))

    return change


def opaque_constant(members: Members, canary: Path) -> None:
    members["data/constants/opaque_obj_0"] = pickle.dumps(Canary(canary))
    entry = {
        "path_name": "opaque_obj_0",
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }
    edited(members, CONSTANTS, lambda it: it["config"].update(evil=entry))


def pickled_weights_of_2_8(members: Members, canary: Path) -> None:
    stream = io.BytesIO()
    torch.save({"a": Canary(canary)}, stream)
    members["data/weights/model.pt"] = stream.getvalue()


def evil_expression(canary: Path) -> str:
    return f"__import__('os').mkdir({str(canary)!r})"


def expression_of_the_batch(members: Members, canary: Path) -> None:
    def change(program: Any) -> None:
        for each in program["graph_module"]["signature"]["input_specs"]:
            if "user_input" in each:
                name = each["user_input"]["arg"]["as_tensor"]["name"]
        meta = graph_of(program)["tensor_values"][name]
        meta["sizes"][0]["as_expr"]["expr_str"] = evil_expression(canary)

    edited(members, MODEL, change)


def target(name: str) -> Callable[[Members, Path], None]:
    def change(members: Members, _: Path) -> None:
        edited(members, MODEL, lambda it: node_of(it, "conv3d.default").update(target=name))

    return change


def in_program(change: Callable[[Any], None]) -> Callable[[Members, Path], None]:
    return lambda members, _: edited(members, MODEL, change)


def first_weight(**values: Any) -> Callable[[Members, Path], None]:
    def change(members: Members, _: Path) -> None:
        edited(
            members,
            WEIGHTS,
            lambda it: next(iter(it["config"].values()))["tensor_meta"].update(values),
        )

    return change


def twice(program: Any) -> None:
    nodes = graph_of(program)["nodes"]
    nodes.append(copy.deepcopy(nodes[-1]))


def backwards(program: Any) -> None:
    graph_of(program)["nodes"].reverse()


def second_program(members: Members, _: Path) -> None:
    members["models/other.json"] = members[MODEL]


def without_program(members: Members, _: Path) -> None:
    del members[MODEL]


def other_archive_version(members: Members, _: Path) -> None:
    members["archive_version"] = b"1"


def big_endian(members: Members, _: Path) -> None:
    members["byteorder"] = b"big"


def no_json(members: Members, _: Path) -> None:
    members[MODEL] = b"{"


def nested(members: Members, _: Path) -> None:
    members[MODEL] = b"[" * 100_000


def custom_object(program: Any) -> None:
    arg = {"as_custom_obj": {"name": "x", "class_fqn": "os.system"}}
    node_of(program, "conv3d.default")["inputs"][0]["arg"] = arg


def training(program: Any) -> None:
    for given in node_of(program, "batch_norm.default")["inputs"]:
        if given["name"] == "training":
            given["arg"] = {"as_bool": True}


def changes_a_buffer(program: Any) -> None:
    spec = {"buffer_mutation": {"arg": {"name": "x"}, "buffer_name": "x"}}
    program["graph_module"]["signature"]["output_specs"].append(spec)


def repeated(size: int) -> Callable[[Members, Path], None]:
    return first_weight(
        sizes=[{"as_int": size}, {"as_int": size}], strides=[{"as_int": 0}, {"as_int": 0}]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pickled(WEIGHTS), "is pickled, and unpickling can run code"),
        (pickled(CONSTANTS), "is pickled, and unpickling can run code"),
        (opaque_constant, "is pickled, and unpickling can run code"),
        (pickled_weights_of_2_8, "such a file can run programs"),
        (expression_of_the_batch, "conditions on the batch"),
        (target("os.system"), "'os.system', which is not among the operators"),
        (target("builtins.eval"), "not among the operators"),
        (target("torch.ops.aten.from_file.default"), "not among the operators"),
        (target("torch.ops.aten.empty.memory_format"), "not among the operators"),
        (target("torch.ops.aten._reshape_alias.default"), "not among the operators"),
        (target("torch.ops.aten.as_strided.default"), "not among the operators"),
        (target("torch.ops.aten.rand_like.default"), "not among the operators"),
        (target("torch.ops.aten.add.out"), "not among the operators"),
        (target("torch.ops.aten.relu.__class__"), "not among the operators"),
        (target("torch.ops.mamba_ssm.scan.default"), "segmaformer.mamba.stand_in"),
        (in_program(custom_object), "as_custom_obj"),
        (in_program(training), "as in training"),
        (in_program(changes_a_buffer), "buffer_mutation"),
        (in_program(twice), "computes a value twice"),
        (in_program(backwards), "before it is computed"),
        (in_program(lambda it: it["schema_version"].update(major=9)), "schema has version 9"),
        (in_program(lambda it: it.pop("graph_module")), "not as torch.export.save writes it"),
        (in_program(lambda it: it.update(guards_code=["L['x'].size()[0] % 2 == 0"])), "conditions"),
        (first_weight(sizes=[{"as_int": 9999}], strides=[{"as_int": 1}]), "larger than its"),
        (first_weight(storage_offset={"as_int": -8}), "negative"),
        (first_weight(dtype=11), "no dense tensor"),
        (first_weight(layout=2), "no dense tensor"),
        (repeated(100_000), "repeat their bytes"),
        (second_program, "holds 2 programs"),
        (without_program, "holds 0 programs"),
        (other_archive_version, "expected pt2 of version 0"),
        (big_endian, "big-endian"),
        (no_json, "not as torch.export.save writes it"),
        (nested, "not as torch.export.save writes it"),
    ],
)
def test_hostile_and_foreign_files_are_refused(
    tmp_path: Path, genuine: Members, change: Callable[[Members, Path], None], message: str
) -> None:
    canary = tmp_path / "canary"
    members = dict(genuine)
    change(members, canary)
    with pytest.raises(InputError, match=message):
        read_pt2_network(zipped(tmp_path, members), SHAPE)
    assert not canary.exists()


def zipped(folder: Path, members: Members, method: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "network.pt2"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(ROOT + name, content)
    return path


def test_what_is_not_needed_is_not_opened(tmp_path: Path, genuine: Members) -> None:
    """Example inputs are pickled, and expressions within the graph are only for PyTorch."""
    canary = tmp_path / "canary"
    members = {**genuine, "data/sample_inputs/model.pt": pickle.dumps(Canary(canary))}

    def change(program: Any) -> None:
        program["guards_code"] = [evil_expression(canary)]
        for meta in graph_of(program)["tensor_values"].values():
            meta["strides"] = [{"as_expr": {"expr_str": evil_expression(canary), "hint": None}}]

    edited(members, MODEL, change)
    read_pt2_network(zipped(tmp_path, members), SHAPE)
    assert not canary.exists()


def test_a_bomb_a_cut_and_a_duplicate_are_refused(tmp_path: Path, genuine: Members) -> None:
    bomb = {**genuine, "data/weights/weight_0": bytes(1 << 24)}
    with pytest.raises(InputError, match="states to hold"):
        read_pt2_network(zipped(tmp_path, bomb, zipfile.ZIP_DEFLATED), SHAPE)
    path = zipped(tmp_path, genuine)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        read_pt2_network(path, SHAPE)
    path = zipped(tmp_path, genuine)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(ROOT + MODEL, b"{}")
    with pytest.raises(InputError, match="more than once"):
        read_pt2_network(path, SHAPE)
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a zip archive"):
        read_pt2_network(path, SHAPE)


def test_another_tile_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, exported(size=(1, 8, 8, 8)))
    with pytest.raises(InputError, match=r"tiles of \(1, 8, 8, 8\)"):
        read_pt2_network(path, SHAPE)
