from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segmaformer.export.own_network.user_module import build_module
from segmaformer.mamba import Mamba
from segmaformer.runtime.errors import InputError

SOURCE = """
from torch import nn
from mamba_ssm import Mamba
print("hello from the module")

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.mamba = Mamba(width)

class OnGpu(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, device="cuda").to("cuda:0").cuda()

def fails():
    raise RuntimeError("no weights found")

def lacks():
    import not_installed_anywhere

def of_a_fork():
    try:
        from mamba_ssm import Mamba_FFT
    except ImportError:
        pass
    return Mamba_FFT(4)

def exits():
    raise SystemExit("no licence")

def needs_a_gpu():
    raise RuntimeError("CUDA is needed")

def number():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "their_network.py").write_text(SOURCE)
    (tmp_path / "broken_network.py").write_text("1 / 0")
    for name in ("their_network", "broken_network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_factory_with_arguments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    network: Any = build_module("their_network:Net", folder, '{"width": 8}', report=lines.append)
    assert type(network.mamba) is Mamba
    assert network.mamba.d_model == 8
    said = capsys.readouterr()
    assert said.out == ""
    assert "hello from the module" in said.err
    assert lines == [f"running their_network:Net from {folder / 'their_network.py'}"]
    assert str(folder) not in sys.path


def test_code_that_asks_for_cuda(folder: Path) -> None:
    lines: list[str] = []
    network: Any = build_module("their_network:OnGpu", folder, None, report=lines.append)
    assert lines[1] == "their_network asked for CUDA, and the CPU answered"
    assert network.layer.weight.device.type == "cpu"


def test_the_current_folder_is_not_searched(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    with pytest.raises(InputError, match="importing their_network fails"):
        build_module("their_network:Net", None, None)


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        ("their_network", None, "expected package.module:name"),
        ("absent_network:Net", None, "importing absent_network fails"),
        ("broken_network:Net", None, r"fails: ZeroDivisionError: .*broken_network\.py, line 1\)"),
        ("their_network:Other", None, "their_network has no Other"),
        ("their_network:fails", None, r"no weights found \(.*their_network\.py, line 17\)"),
        ("their_network:lacks", None, "No module named .* install what it needs"),
        ("their_network:of_a_fork", None, r"It asks for mamba_ssm\.Mamba_FFT, which"),
        ("their_network:exits", None, r"fails: SystemExit: no licence \(.*line 30\)"),
        ("their_network:needs_a_gpu", None, r"The export runs on the CPU: let the code take"),
        ("their_network:number", None, "gives a int; expected a torch.nn.Module"),
        ("their_network:Net", "{", "--module-args is not JSON"),
        ("their_network:Net", "[1]", "expected an object"),
        ("their_network:Net", '{"depth": 1}', "TypeError"),
    ],
)
def test_factories_that_give_no_network(
    folder: Path, factory: str, arguments: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_module(factory, folder, arguments)
