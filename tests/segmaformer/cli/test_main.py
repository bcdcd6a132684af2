from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

import segmaformer
from segmaformer.cli.console import versioned
from segmaformer.cli.exit_codes import exit_code, message_of
from segmaformer.cli.main import COMMANDS, cli
from segmaformer.runtime.errors import (
    BackendError,
    BudgetError,
    EngineError,
    GeometryError,
    InputError,
    MissingExtraError,
    PackageError,
    ParityError,
    SgmfError,
)

Sgmf = Callable[..., Any]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SgmfError(), 1),
        (BackendError(), 1),
        (MissingExtraError(), 1),
        (PermissionError(), 1),
        (OSError(), 1),
        (ValueError(), 1),
        (MemoryError(), 1),
        (FileNotFoundError(), 2),
        (FileExistsError(), 2),
        (NotADirectoryError(), 2),
        (IsADirectoryError(), 2),
        (InputError(), 3),
        (GeometryError(), 3),
        (BudgetError("voxels", 1, 2), 3),
        (PackageError(), 4),
        (ParityError(), 4),
        (EngineError(), 4),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("command", "option", "value", "most"),
    [
        ("infer", "--threads", "1000000", "1024"),
        ("bench", "--threads", "1025", "1024"),
        ("verify", "--threads", "0", "1024"),
        ("infer", "--memory-budget", str(2**63), "8796093022207"),
        ("check", "--memory-budget", "8796093022208", "8796093022207"),
        ("check", "--memory-budget", "0", "8796093022207"),
        ("infer", "--memory-budget", "-1", "8796093022207"),
    ],
)
def test_numbers_that_nothing_has_are_usage_errors(
    sgmf: Sgmf, tmp_path: Path, command: str, option: str, value: str, most: str
) -> None:
    run = sgmf(command, tmp_path, option, value)
    assert run.code == 2
    assert f"{value} is not in the range 1<=x<={most}" in run.stderr


def test_an_error_without_a_text_is_named() -> None:
    assert message_of(MemoryError()) == "MemoryError"
    assert message_of(ValueError("too long")) == "too long"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command_and_exit_code(sgmf: Sgmf, option: str) -> None:
    run = sgmf(option)
    assert (run.code, run.stderr) == (0, "")
    for command in COMMANDS:
        assert f"  {command} " in run.stdout
    words = " ".join(run.stdout.split())
    assert "0 done, 1 failed, 2 wrong usage, 3 input refused, 4 parity or integrity" in words


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(sgmf: Sgmf, command: str) -> None:
    run = sgmf(command, "-h")
    assert (run.code, run.stderr) == (0, "")
    assert run.stdout.startswith(f"Usage: sgmf {command} [OPTIONS]")


def test_the_version_is_that_of_the_package(sgmf: Sgmf) -> None:
    run = sgmf("--version")
    assert (run.code, run.stdout, run.stderr) == (
        0,
        f"sgmf, version {segmaformer.__version__}\n",
        "",
    )


def test_without_arguments_the_help_is_shown_as_a_usage_error(sgmf: Sgmf) -> None:
    run = sgmf()
    assert (run.code, run.stdout) == (2, "")
    assert "Usage: sgmf" in run.stderr


@pytest.mark.parametrize(
    "arguments", [("segment",), ("infer",), ("infer", "--nope"), ("--nope",), ("doctor", "extra")]
)
def test_usage_errors_go_to_stderr(sgmf: Sgmf, arguments: tuple[str, ...]) -> None:
    run = sgmf(*arguments)
    assert (run.code, run.stdout) == (2, "")
    assert "Usage: sgmf" in run.stderr


def test_with_json_a_usage_error_is_one_document_on_stdout(sgmf: Sgmf) -> None:
    run = sgmf("doctor", "--json", "--nope")
    assert run.code == 2
    document = json.loads(run.stdout)
    assert document["exit_code"] == 2
    assert "--nope" in document["error"]
    assert "--nope" in run.stderr


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 1, "interrupted"),
        (MemoryError(), 1, "MemoryError"),
        (PackageError("hash"), 4, "hash"),
        (GeometryError("affine"), 3, "affine"),
        (click.UsageError("how"), 2, "how"),
    ],
)
def test_a_run_ends_with_a_message_and_the_code_of_its_error(
    sgmf: Sgmf,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
    as_json: bool,
) -> None:
    def fail(as_json: bool) -> None:
        raise error

    broken = click.Command(
        "doctor", callback=fail, params=[click.Option(["--json", "as_json"], is_flag=True)]
    )
    monkeypatch.setattr(cli, "get_command", lambda context, name: broken)
    run = sgmf("doctor", *["--json"][: int(as_json)])
    assert run.code == code
    assert message in run.stderr
    if as_json:
        assert json.loads(run.stdout) == versioned({"error": message, "exit_code": code})
    else:
        assert run.stdout == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_defect_shows_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    from segmaformer.cli import main

    def fail(as_json: bool) -> None:
        raise ZeroDivisionError("none\x1b[2J left\n")

    option = click.Option(["--json", "as_json"], is_flag=True)
    broken = click.Command("doctor", callback=fail, params=[option])
    monkeypatch.setattr(cli, "get_command", lambda *_: broken)
    with pytest.raises(SystemExit, match="1"):
        main(["doctor", *["--json"][: int(as_json)]])
    found = capfd.readouterr()
    assert found.err.startswith("Traceback (most recent call last):\n")
    assert found.err.endswith("\nZeroDivisionError: none\\x1b[2J left\n")
    if as_json:
        document = versioned({"error": "ZeroDivisionError: none\x1b[2J left\n", "exit_code": 1})
        assert json.loads(found.out) == document
    else:
        assert found.out == ""


def in_a_new_interpreter(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_imports_neither_pytorch_nor_onnx() -> None:
    code = (
        "import sys, segmaformer.cli, segmaformer.cli.commands.infer, segmaformer.runtime\n"
        "print(sorted({'torch', 'onnx', 'onnxscript', 'onnx_ir'} & set(sys.modules)))"
    )
    assert in_a_new_interpreter(code).stdout == "[]\n"


def test_the_start_of_the_command_is_short() -> None:
    code = (
        "import sys, segmaformer.cli; print({'numpy', 'onnxruntime', 'nibabel'} & set(sys.modules))"
    )
    assert in_a_new_interpreter(code).stdout == "set()\n"


def test_infer_starts_without_what_only_batches_and_dicom_need() -> None:
    code = (
        "import sys, segmaformer.cli.commands.infer\n"
        "names = ('cli.cohort.pool', 'runtime.scans.dicom.scan', "
        "'runtime.results.dicom.segmentation_object')\n"
        "print([name for name in names if f'segmaformer.{name}' in sys.modules])"
    )
    assert in_a_new_interpreter(code).stdout == "[]\n"


def test_commands_start_without_pydicom_and_find_it_later() -> None:
    pytest.importorskip("pydicom")
    code = (
        "import sys, click\n"
        "from segmaformer.cli.main import cli\n"
        "assert cli.get_command(click.Context(cli), 'infer')\n"
        "print('nibabel' in sys.modules, 'pydicom' in sys.modules)\n"
        "import pydicom"
    )
    run = in_a_new_interpreter(code)
    assert (run.stdout, run.returncode) == ("True False\n", 0)


@pytest.mark.parametrize("module", ["segmaformer.cli.commands.infer", "nibabel"])
def test_an_interrupted_import_is_no_defect(module: str) -> None:
    code = (
        "import sys\n"
        "from segmaformer.cli import main\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "main(['infer', 'scan.nii.gz', '-m', 'brain.sgmf', '--json'])"
    )
    run = in_a_new_interpreter(code)
    assert (run.returncode, run.stderr.strip()) == (1, "sgmf: interrupted")
    assert json.loads(run.stdout) == versioned({"error": "interrupted", "exit_code": 1})


STREAMS = {
    "| exec true": "Broken pipe",
    "> /dev/full": "No space left on device",
    ">&-": "closed",
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", ["inspect PACKAGE --json", "inspect PACKAGE", "nope --json"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stdout_that_takes_nothing_is_an_error_and_no_defect(
    tiny_package_path: Path, tmp_path: Path, stream: str, arguments: str
) -> None:
    given = arguments.replace("PACKAGE", str(tiny_package_path))
    # A reader that has left before the first byte: how much a pipe holds does not matter then.
    script = f"set -o pipefail; {sys.executable} -m segmaformer {given} {stream}"
    run = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr
    if "nope" in arguments:
        assert (run.returncode, "No such command 'nope'" in run.stderr) == (2, True)
        return
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("sgmf: cannot write the results to stdout: ")
    assert STREAMS[stream] in last


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full"])
def test_where_stderr_takes_nothing_results_are_written_all_the_same(
    tmp_path: Path, stream: str
) -> None:
    script = f"{sys.executable} -m segmaformer list {stream}"
    run = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "segmamba" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("infr",), "'infer'"),
        (("infer", "--backend", "tensort", "x.nii"), "'tensorrt'"),
    ],
)
def test_a_mistyped_word_gets_the_nearest(
    sgmf: Sgmf, arguments: tuple[str, ...], meant: str
) -> None:
    run = sgmf(*arguments)
    assert run.code == 2
    assert f"Did you mean {meant}?" in run.stderr


def test_a_word_that_is_like_no_command_gets_no_guess(sgmf: Sgmf) -> None:
    run = sgmf("xyzzy")
    assert run.code == 2
    assert "Did you mean" not in run.stderr


def _completions(*words: str) -> list[str]:
    complete = ShellComplete(cli, {}, "sgmf", "_SGMF_COMPLETE")
    return [item.value for item in complete.get_completions([*words[:-1]], words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("exp",), ["export", "export-triton"]),
        (("",), [*COMMANDS]),
        (("--ver",), ["--version"]),
        (("infer", "--back"), ["--backend"]),
        (("infer", "--device", "c"), ["cpu", "cuda"]),
        (("trust", ""), ["add", "list", "remove"]),
    ],
)
def test_shells_complete_commands_options_and_choices(
    words: tuple[str, ...], expected: list[str]
) -> None:
    assert _completions(*words) == expected


def test_completing_a_command_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was imported")

    main = sys.modules["segmaformer.cli.main"]  # the package shows the function of that name
    monkeypatch.setattr(main, "importlib", types.SimpleNamespace(import_module=refuse))
    assert "infer" in _completions("i")
