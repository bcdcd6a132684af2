"""Networks of a user's own: exported, or refused with the reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks.nnunet_folders import DATASET, TILE, plans

torch = pytest.importorskip("torch")

from segmaformer.export.own_network.module_probe import FirstOutput, probe_module
from segmaformer.export.own_network.own_module import (
    Use,
    export_module,
    module_checkpoint,
    read_use,
    use_of_plans,
)
from segmaformer.mamba import stand_in
from segmaformer.runtime.backends import open_session
from segmaformer.runtime.errors import InputError, PackageError

nn = torch.nn


class Small(nn.Module):  # type: ignore[misc]
    """A U-Net of one level with a Mamba layer, written as users write them."""

    def __init__(self) -> None:
        super().__init__()
        with stand_in():
            from mamba_ssm import Mamba  # type: ignore[import-not-found]
        self.down = nn.Conv3d(1, 8, 3, stride=2, padding=1)
        self.norm = nn.InstanceNorm3d(8, affine=True)
        self.mamba = Mamba(8, d_state=4)
        self.up = nn.ConvTranspose3d(8, 3, 2, stride=2)

    def forward(self, x: Any) -> Any:
        features = self.norm(self.down(x)).relu()
        tokens = self.mamba(features.flatten(2).transpose(1, 2))
        features = features + tokens.transpose(1, 2).view_as(features)
        return [self.up(features), features]


class Wrong(Small):
    """A network with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.seen = fault, 0

    def forward(self, x: Any) -> Any:
        if self.fault == "fails":
            x = x.view(-1, 7)
        if self.fault == "input":
            x += 1
        logits = super().forward(x)[0]
        if self.fault == "random":
            logits = logits + torch.rand_like(logits)
        if self.fault == "state":
            self.seen += 1
            logits = logits * self.seen
        if self.fault == "batch":
            logits = logits - logits.mean()
        if self.fault == "size":
            logits = logits[..., ::2]
        if self.fault == "labels":
            logits = logits.argmax(1)
        if self.fault == "nan":
            logits = logits / 0 * 0
        if self.fault == "probabilities":
            logits = logits.softmax(1)
        if self.fault == "branch" and torch.cuda.is_available():
            logits = logits * 2
        if self.fault == "exits":
            sys.exit(3)
        if self.fault == "stream":
            torch.cuda.Stream()
        return logits


@pytest.fixture
def documents(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "plans.json").write_text(json.dumps(plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    return tmp_path / "plans.json", tmp_path / "dataset.json"


def test_export_with_plans(tmp_path: Path, documents: tuple[Path, Path]) -> None:
    torch.manual_seed(0)
    module = Small()
    trained = {f"module.{key}": value + 0.01 for key, value in module.state_dict().items()}
    torch.save({"epoch": 3, "net": trained}, tmp_path / "weights.pt")
    lines: list[str] = []
    package = export_module(
        module,
        tmp_path / "own.sgmf",
        use_of_plans(*documents, mirror_axes=(0, 1)),
        weights=tmp_path / "weights.pt",
        report=lines.append,
    )
    assert package.manifest.network.name == "Small"
    assert package.manifest.network.checkpoint_file == "weights.pt"
    assert package.manifest.tiling.mirror_axes == (0, 1)
    tile = np.random.default_rng(0).normal(size=(1, 1, *TILE)).astype(np.float32)
    session = open_session(package, backend="onnxruntime")
    with torch.inference_mode():
        expected = module(torch.from_numpy(tile))[0].numpy()
    np.testing.assert_allclose(session.run(tile), expected, atol=2e-5 * np.ptp(expected))


def test_use_from_a_file_is_the_manifests(tmp_path: Path, documents: tuple[Path, Path]) -> None:
    use = use_of_plans(*documents)
    package = export_module(Small(), tmp_path / "own.sgmf", use)
    manifest = json.loads((package.path / "manifest.json").read_text())
    keys = ("preprocessing", "tiling", "output")
    (tmp_path / "use.json").write_text(json.dumps({key: manifest[key] for key in keys}))
    assert read_use(tmp_path / "use.json") == use
    (tmp_path / "use.json").write_text(json.dumps({key: manifest[key] for key in keys[1:]}))
    with pytest.raises(PackageError, match="preprocessing"):
        read_use(tmp_path / "use.json")
    with pytest.raises(InputError, match="contradicts itself"):
        Use(use.preprocessing, use.tiling.__class__((0, 8, 8)), use.output)


def test_code_that_asks_for_cuda(tmp_path: Path, documents: tuple[Path, Path]) -> None:
    class ForGpus(Small):
        def forward(self, x: Any) -> Any:
            if torch.cuda.is_available():
                x = x.cuda()
            offset = torch.full((1,), 0.5, device="cuda")
            return super().forward(x.cuda().to("cuda:0") + offset.to(torch.device("cuda")))

    module = ForGpus()
    package = export_module(module, tmp_path / "own.sgmf", use_of_plans(*documents))
    assert any("asks for CUDA" in each for each in package.manifest.network.assumptions)
    tile = np.random.default_rng(0).normal(size=(1, 1, *TILE)).astype(np.float32)
    with torch.inference_mode():
        expected = Small.forward(module, torch.from_numpy(tile) + 0.5)[0].numpy()
    logits = open_session(package, backend="onnxruntime").run(tile)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))


def test_code_that_prints(
    tmp_path: Path, documents: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    class Talking(Small):
        def forward(self, x: Any) -> Any:
            print("hello from the module")
            return super().forward(x)

    package = export_module(Talking(), tmp_path / "own.sgmf", use_of_plans(*documents))
    assert any("prints while it runs" in each for each in package.manifest.network.assumptions)
    said = capsys.readouterr()
    assert said.out == ""
    assert "hello from the module" in said.err


def test_one_tile_at_a_time(tmp_path: Path, documents: tuple[Path, Path]) -> None:
    class OneTile(Small):
        def forward(self, x: Any) -> Any:
            return super().forward(x.view(1, 1, *TILE))

    lines: list[str] = []
    use = use_of_plans(*documents)
    package = export_module(OneTile(), tmp_path / "own.sgmf", use, report=lines.append)
    assert any(line.startswith("one tile at a time") for line in lines)
    logits = open_session(package, backend="onnxruntime").run(np.zeros((1, 1, *TILE), np.float32))
    assert logits.shape == (1, 3, *TILE)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "fails",
            r"fails on a tile of shape .* on the CPU: RuntimeError: .*test_own_module\.py, line",
        ),
        ("input", "changes its input"),
        ("random", "second time"),
        ("state", "second time"),
        ("batch", "mixes the tiles of a batch"),
        ("size", r"gives \(1, 3, 16, 16, 8\) for an input"),
        ("labels", r"gives \(1, 16, 16, 16\) for an input"),
        ("nan", "NaN or infinite"),
        ("probabilities", "as probabilities are; expected logits"),
        ("branch", r"computes something else where torch\.cuda\.is_available"),
        ("exits", r"SystemExit: 3 \(.*test_own_module\.py, line"),
        ("stream", "The export runs on the CPU: let the code take the device of its input"),
    ],
)
def test_modules_that_cannot_be_exported(fault: str, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match=message):
        probe_module(FirstOutput(Wrong(fault).eval(), 3), (1, *TILE))


def test_control_flow_that_depends_on_values(
    tmp_path: Path, documents: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    class Branching(Small):
        def forward(self, x: Any) -> Any:
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(InputError, match=r"PyTorch cannot trace .*test_own_module\.py, line"):
        export_module(Branching(), tmp_path / "own.sgmf", use_of_plans(*documents))
    assert not (tmp_path / "own.sgmf").exists()
    assert "def forward" not in capfd.readouterr().err


class Altered(Small):
    """The network with another computation beside it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Any) -> Any:
        if self.how == "seeded":
            torch.manual_seed(0)
            x = x + torch.randn_like(x)
        if self.how == "bfloat16":
            x = x.bfloat16().float()
        return super().forward(x)


@pytest.mark.parametrize(
    ("how", "message"),
    [("seeded", "draws random numbers .*even if it seeds"), ("bfloat16", "computes in bfloat16")],
)
def test_computations_that_are_not_exported(
    tmp_path: Path, documents: tuple[Path, Path], how: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        export_module(Altered(how), tmp_path / "own.sgmf", use_of_plans(*documents))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_taken_off(documents: tuple[Path, Path], wrap: Any) -> None:
    module = Small()
    checkpoint = module_checkpoint(
        wrap(module), use_of_plans(*documents), weights=module.state_dict()
    )
    assert checkpoint.arch == "Small"


def test_torchscript_is_refused(documents: tuple[Path, Path]) -> None:
    scripted = torch.jit.trace(nn.Conv3d(1, 3, 1), torch.zeros(1, 1, *TILE))
    with pytest.raises(InputError, match="build the network from its Python code"):
        module_checkpoint(scripted, use_of_plans(*documents))


def test_packages_that_are_imported_while_it_runs() -> None:
    class Late(Small):
        def forward(self, x: Any) -> Any:
            from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

            assert callable(selective_scan_fn)
            return super().forward(x)

    assert FirstOutput(Late().eval(), 3)(torch.zeros(1, 1, *TILE)).shape == (1, 3, *TILE)


@pytest.mark.parametrize("nest", [tuple, list, lambda pair: {"out": pair[0], "aux": pair[1]}])
def test_results_are_unwrapped(nest: Any) -> None:
    class Nested(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return nest((x.repeat(1, 2, 1, 1, 1).half(), x))

    volume = torch.randn(1, 1, 2, 2, 2)
    logits = FirstOutput(Nested(), 2)(volume)
    assert logits.shape == (1, 2, 2, 2, 2)
    assert logits.dtype == torch.float32


def test_weights_of_another_module(tmp_path: Path, documents: tuple[Path, Path]) -> None:
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"it lacks down\.weight"):
        export_module(
            Small(), tmp_path / "o.sgmf", use_of_plans(*documents), weights=tmp_path / "weights.pt"
        )


def test_weights_that_stand_twice_in_a_file(tmp_path: Path, documents: tuple[Path, Path]) -> None:
    weights = Small().state_dict()
    torch.save({"net": weights, "ema": dict(weights)}, tmp_path / "weights.pt")
    use = use_of_plans(*documents)
    with pytest.raises(InputError, match="in net, ema; choose one"):
        export_module(Small(), tmp_path / "own.sgmf", use, weights=tmp_path / "weights.pt")
    export_module(
        Small(), tmp_path / "own.sgmf", use, weights=tmp_path / "weights.pt", weights_key="ema"
    )
