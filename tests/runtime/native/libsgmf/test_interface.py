"""Promises of sgmf.h: languages, symbols, versions, sizes of structs."""

from __future__ import annotations

import ctypes
import itertools
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.native import libsgmf
from support.native.native_builds import exported_symbols

from segmaformer.runtime.system.printable import UNPRINTABLE

TEXT = re.sub(r"/\*.*?\*/", "", libsgmf.HEADER.read_text(), flags=re.DOTALL)
DECLARED = set(re.findall(r"\b(sgmf_\w+)\(", TEXT))
STATUSES = re.findall(r"(SGMF_\w+) = (\d+)", TEXT[: TEXT.index("sgmf_status_name")])
LANGUAGES = (("c", "c11"), ("c", "c17"), ("c++", "c++17"), ("c++", "c++20"))


@pytest.mark.parametrize(
    ("compiler", "language"),
    [*itertools.product(("gcc", "clang"), LANGUAGES)],
)
def test_the_header_compiles_without_a_warning(
    compiler: str, language: tuple[str, str], tmp_path: Path
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    source = tmp_path / "include"
    source.write_text("#include <sgmf.h>\n")
    kind, standard = language
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    command = [compiler, "-x", kind, f"-std={standard}", *warnings, "-fsyntax-only"]
    subprocess.run([*command, f"-I{libsgmf.HEADER.parent}", str(source)], check=True)


def test_only_what_the_header_declares_is_exported() -> None:
    symbols = exported_symbols(libsgmf.library_path())
    assert symbols - {"SGMF_1"} == {f"{name}@@SGMF_1" for name in DECLARED}


def test_the_header_is_installed_beside_the_library() -> None:
    installed = libsgmf.library_path().parents[1] / "include/sgmf.h"
    assert installed.read_text() == libsgmf.HEADER.read_text()


def test_versions_agree() -> None:
    project = (libsgmf.ROOT / "pyproject.toml").read_text()
    library = ctypes.CDLL(str(libsgmf.library_path()))
    library.sgmf_version.restype = ctypes.c_char_p
    assert f'\nversion = "{library.sgmf_version().decode()}"\n' in project
    assert library.sgmf_abi_version() == libsgmf.example.ABI_VERSION == 1
    assert libsgmf.library_path().name == "libsgmf.so.1"
    assert "#define SGMF_ABI_VERSION 1u" in libsgmf.HEADER.read_text()


def test_every_status_has_its_name() -> None:
    library = ctypes.CDLL(str(libsgmf.library_path()))
    library.sgmf_status_name.restype = ctypes.c_char_p
    assert len(STATUSES) == 14
    for name, value in STATUSES:
        assert library.sgmf_status_name(int(value)).decode() == name
    assert library.sgmf_status_name(-1) == library.sgmf_status_name(99) == b"unknown"


STRUCTS = {
    "sgmf_open_options": libsgmf.OpenOptions,
    "sgmf_info": libsgmf.Info,
    "sgmf_input": libsgmf.Entry,
    "sgmf_label": libsgmf.Entry,
    "sgmf_region": libsgmf.Region,
    "sgmf_volume": libsgmf.Volume,
    "sgmf_labels": libsgmf.Labels,
    "sgmf_run_options": libsgmf.RunOptions,
    "sgmf_statistics": libsgmf.Statistics,
}


def test_structs_are_laid_out_as_their_mirrors(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    numbers = {"sgmf_input": "intensities", "sgmf_label": "value", "sgmf_region": "value"}
    checks = []
    for name, mirror in STRUCTS.items():
        checks.append(f"sizeof({name}) == {ctypes.sizeof(mirror)}")
        for field, *_ in mirror._fields_:
            member = numbers[name] if field == "number" else field
            checks.append(f"offsetof({name}, {member}) == {getattr(mirror, field).offset}")
    lines = ["#include <sgmf.h>", "#include <stddef.h>"]
    lines += [f'_Static_assert({check}, "{check}");' for check in checks]
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(
        [compiler, "-std=c11", "-fsyntax-only", f"-I{libsgmf.HEADER.parent}", str(source)],
        check=True,
    )


def batches(texts: Sequence[str], size: int = 40) -> Iterator[str]:
    for start in range(0, len(texts), size):
        yield "".join(texts[start : start + size])


def message_about(name: bytes) -> str:
    """Return the message about a package that does not exist."""
    handle = libsgmf.Handle(None, package_path=b"/nowhere/<" + name + b">")
    assert handle.opened == "SGMF_NOT_FOUND"
    return handle.open_message.partition("<")[2].partition(">")[0]


def test_no_name_steers_a_terminal_by_a_message() -> None:
    every = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    bad = [each for each in every if unicodedata.category(each) in UNPRINTABLE]
    assert len(bad) > 200
    for batch in batches(bad):
        assert message_about(batch.encode()) == "?" * len(batch.encode())
    letters = [each for each in every[::997] if unicodedata.category(each)[0] in "LMNPS"]
    for batch in batches([each for each in letters if each not in "<>/"]):
        assert message_about(batch.encode()) == batch


@pytest.mark.parametrize(
    "name", [b"\x9b2J", b"\xc0\x9b", b"\xe2\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"]
)
def test_bytes_that_are_no_text_are_replaced(name: bytes) -> None:
    shown = message_about(name)
    assert shown == name.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
