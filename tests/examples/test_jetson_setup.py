from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "jetson_setup.sh"
RELEASES = {
    6: "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    7: "# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64\n",
}

Setup = Callable[..., Any]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Run the script with a file that names the Jetson, without sudo and apt."""

    def run(*arguments: str, release: str | None = RELEASES[6]) -> Any:
        file = tmp_path / "nv_tegra_release"
        if release is not None:
            file.write_text(release)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "JETSON_RELEASE_FILE": str(file),
        }
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


def test_bash_can_read_it() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


@pytest.mark.parametrize(("jetpack", "architectures"), [(6, "87"), (7, r"87\;110")])
def test_a_dry_run_says_every_command_and_changes_nothing(
    setup: Setup, tmp_path: Path, jetpack: int, architectures: str
) -> None:
    run = setup("--dry-run", "my model.sgmf", "a.nii.gz", release=RELEASES[jetpack])
    assert (run.returncode, run.stderr) == (0, "")
    assert f"JetPack {jetpack}" in run.stdout
    commands = [line[2:] for line in run.stdout.splitlines() if line.startswith("+ ")]
    assert "sudo apt-get install -y nvidia-jetpack" in commands[1]
    assert f"venv --system-site-packages {tmp_path}/sgmf" in commands[2]
    assert f"SGMF_CUDA_ARCHITECTURES={architectures} " in commands[3]
    assert commands[3].endswith(r"\[tensorrt\]")
    assert commands[-2].endswith(r"sgmf build my\ model.sgmf --batch 1")
    assert commands[-1].endswith(r"infer a.nii.gz -m my\ model.sgmf --backend tensorrt")
    assert [path.name for path in tmp_path.iterdir()] == ["nv_tegra_release"]


def test_power_and_clocks_come_before_the_build(setup: Setup) -> None:
    text = setup("--dry-run", "--power", "0", "--clocks", "m.sgmf").stdout
    assert text.index("nvpmodel -m 0") < text.index("jetson_clocks") < text.index("sgmf build")


def test_without_a_package_it_ends_after_the_installation(setup: Setup) -> None:
    run = setup("--dry-run")
    assert run.returncode == 0
    assert "sgmf build" not in "".join(x for x in run.stdout.splitlines() if x.startswith("+"))


@pytest.mark.parametrize(
    ("arguments", "release", "words"),
    [
        ([], None, "this is no Jetson"),
        ([], "# R35 (release), REVISION: 1\n", "L4T R35 is not supported; expected R36"),
        ([], "something else\n", "does not say a release"),
        (["--power"], RELEASES[6], "--power needs a value"),
        (["--power", "MAXN"], RELEASES[6], "expected the number of a mode"),
        (["--batch", "0"], RELEASES[6], "expected a number above zero"),
        (["--fast"], RELEASES[6], "unknown option --fast"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    setup: Setup, arguments: list[str], release: str | None, words: str
) -> None:
    run = setup("--dry-run", *arguments, release=release)
    assert run.returncode == 1
    assert words in run.stderr
    assert "\n+ " not in run.stdout
