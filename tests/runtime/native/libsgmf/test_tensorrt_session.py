"""Labels by an engine of TensorRT inside libsgmf, with stand-ins for TensorRT and the driver.

What a stand-in cannot show is in docs/reference/hardware.md.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native.libsgmf import Handle, labels_of, library_path, volume_of
from support.native.native_builds import (
    NATIVE,
    STAND_INS,
    compile_library,
    cuda_include_dir,
    exported_symbols,
    json_headers,
    tensorrt_include_dirs,
)
from support.packages.samples import head_like
from support.packages.small_packages import TILE, write_package
from support.stand_ins import tensorrt_on_host as on_host
from support.stand_ins.device_library import compile_on_host
from support.stand_ins.tensorrt_on_host import Machine, Outcome

from segmaformer.runtime import Predictor
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.bindings.cuda_driver import has_nvidia_driver
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Region

onnx = pytest.importorskip("onnx")

SHAPE = (37, 30, 41)
SESSION = [
    *(NATIVE / f"tensorrt/session/{name}.cc" for name in ("engine", "installed_plugin", "library")),
    *(NATIVE / f"tensorrt/session/{name}.cc" for name in ("log_listener", "open", "session")),
]
CLEAN = (0, 0, 0)
"""Memory, contexts and objects of TensorRT that may be left when a handle is closed."""


# Networks that a stand-in computes as ONNX Runtime does: every class is a line over the
# intensities of a channel, one product and one sum, so the logits are the same to the last bit.


@dataclass(frozen=True)
class Lines:
    """Write a package, and its network as the text of a stand-in's engine."""

    package: Path
    inputs: int
    outputs: int
    slopes: np.ndarray
    offsets: np.ndarray

    def engine(self, **changes: Any) -> bytes:
        facts: dict[str, Any] = {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "tile": " ".join(map(str, TILE)),
            "batch": 1,
        }
        words = [f"{name} {value}" for name, value in {**facts, **changes}.items()]
        pairs = zip(self.slopes, self.offsets, strict=True)
        lines = [f"line {slope:.9g} {offset:.9g}" for slope, offset in pairs]
        return " ".join(["engine", *words, *lines]).encode()


def write_lines(folder: Path, preprocessing: Preprocessing, output: Output, **extra: Any) -> Lines:
    inputs, outputs = len(preprocessing.channels), output.channels
    slopes = np.linspace(-3.5, 2.6, outputs).astype(np.float32)
    offsets = (-slopes * slopes / 2).astype(np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    constants = [
        onnx.numpy_helper.from_array(np.arange(outputs) % inputs, "channels"),
        onnx.numpy_helper.from_array(slopes.reshape(-1, 1, 1, 1), "slopes"),
        onnx.numpy_helper.from_array(offsets.reshape(-1, 1, 1, 1), "offsets"),
    ]
    nodes = [
        helper.make_node("Gather", ["tiles", "channels"], ["chosen"], axis=1),
        helper.make_node("Mul", ["chosen", "slopes"], ["steep"]),
        helper.make_node("Add", ["steep", "offsets"], ["logits"]),
    ]
    values = [
        helper.make_tensor_value_info(name, kind, ["batch", channels, *TILE])
        for name, channels in (("tiles", inputs), ("logits", outputs))
    ]
    graph = helper.make_graph(nodes, "lines", values[:1], values[1:], constants, **extra)
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    package = write_package(folder, preprocessing, output, model)
    return Lines(package, inputs, outputs, slopes, offsets)


def write_ct(folder: Path, **extra: Any) -> Lines:
    preprocessing = Preprocessing(
        ("CT",),
        (Normalization("ct", mean=60.0, std=40.0, lower=-90.0, upper=170.0),),
        transpose_forward=(1, 0, 2),
        spacing=(1.5, 1.2, 1.3),
        crop_to_nonzero=False,
    )
    labels = tuple(Label(value, f"organ {value}") for value in range(9))
    return write_lines(folder, preprocessing, Output(labels), **extra)


def write_regions(folder: Path) -> Lines:
    preprocessing = Preprocessing(
        ("T1", "FLAIR"), (Normalization("zscore"), Normalization("zscore"))
    )
    labels = (Label(0, "background"), Label(1, "edema"), Label(2, "core"), Label(300, "rim"))
    regions = (Region("whole", (1, 2, 300), 1), Region("core", (2, 300), 2))
    return write_lines(
        folder, preprocessing, Output(labels, (*regions, Region("rim", (300,), 300)))
    )


def text(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def scan(channels: int) -> np.ndarray:
    return np.stack([head_like(SHAPE, seed) for seed in range(channels)])


# The machine --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def major(ct: Lines) -> int:
    """Return the version of TensorRT that libsgmf was built for."""
    said = Handle(ct.package, backend=b"tensorrt", backend_library=b"/none").open_message
    found = re.search(r"name its libnvinfer\.so\.(\d+)", said)
    if found is None:
        assert "was built without TensorRT's headers" in said
        pytest.skip("this libsgmf was built without TensorRT's headers")
    return int(found[1])


def version_of(headers: Path) -> tuple[int, ...]:
    text = (headers / "NvInferVersion.h").read_text()
    names = ("MAJOR", "MINOR", "PATCH", "BUILD")
    found = [re.search(rf"define (?:NV_TENSORRT|TRT)_{name}\S* +(\d+)", text) for name in names]
    return tuple(int(each[1]) for each in found if each)


@pytest.fixture(scope="module")
def headers(major: int) -> Path:
    """Return TensorRT's headers of the version that libsgmf was built for."""
    for folder in tensorrt_include_dirs():
        if version_of(folder)[0] == major:
            return folder
    pytest.skip(f"no headers of TensorRT {major}; set TENSORRT_INCLUDE_DIR")


@pytest.fixture(scope="module")
def folder(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with both stand-ins."""
    folder = tmp_path_factory.mktemp("tensorrt")
    includes = ("-isystem", str(headers), "-isystem", str(cuda_include_dir()))
    driver = [STAND_INS / "driver_on_host.cc"]
    compile_library(folder / "libcuda.so.1", driver, *includes, over_op_library=False)
    # No product is fused into a sum, as in ONNX Runtime's separate operators.
    nvinfer, options = [STAND_INS / "nvinfer_on_host.cc"], (*includes, "-ffp-contract=off")
    compile_library(folder / "libnvinfer.so", nvinfer, *options, over_op_library=False)
    return folder


def pool_of_one() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def process(folder: Path) -> Iterator[ProcessPoolExecutor]:
    """Run a process that finds the stand-in driver; its registrations stay."""
    with pool_of_one() as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LD_LIBRARY_PATH", str(folder), prepend=os.pathsep)
            pool.submit(os.getpid).result()
        yield pool


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    return write_ct(tmp_path_factory.mktemp("ct") / "ct.sgmf")


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    return write_regions(tmp_path_factory.mktemp("regions") / "regions.sgmf")


@pytest.fixture
def machine(folder: Path, headers: Path, tmp_path: Path) -> Machine:
    cache = tmp_path / "above" / "engines"
    return Machine(folder / "libnvinfer.so", version_of(headers), cache)


Do = Callable[..., Any]


@pytest.fixture
def do(process: ProcessPoolExecutor) -> Do:
    def run(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return process.submit(function, *arguments, **options).result()

    return run


def run_engine(do: Do, machine: Machine, lines: Lines, content: bytes, **options: Any) -> Outcome:
    """Keep an engine, then open and run it."""
    do(on_host.keep_engine, machine, lines.package, content)
    outcome: Outcome = do(on_host.run, machine, lines.package, scan(lines.inputs), **options)
    return outcome


def assert_refused(outcome: Outcome, status: str, *words: str) -> None:
    assert outcome.status == status, outcome.message
    for word in words:
        assert word in outcome.message
    assert (outcome.held, outcome.current, outcome.objects) == CLEAN


# Labels -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ct", "regions"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mirror", [0, 1])
def test_labels_are_those_of_the_processor(
    do: Do, machine: Machine, request: pytest.FixtureRequest, kind: str, batch: int, mirror: int
) -> None:
    lines: Lines = request.getfixturevalue(kind)
    voxels = scan(lines.inputs)
    do(on_host.keep_engine, machine, lines.package, lines.engine(batch=batch), batch=batch)
    found = do(on_host.run, machine, lines.package, voxels, mirror=mirror)
    assert (found.status, found.again, found.message) == ("SGMF_OK", "SGMF_OK", "")
    described = (
        f"TensorRT {text(machine.version)}, Host, fp32, batch {batch}, sums on the processor: "
    )
    assert found.backend.startswith(described)  # whatever the library of a GPU says here
    assert not found.on_device
    expected = np.full(SHAPE, 99, np.uint16, order="F")
    with Handle(lines.package, mirror=mirror) as handle:
        assert handle.run(volume_of(voxels), labels_of(expected)) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(found.labels, expected)
    predictor = Predictor(
        Package.open(lines.package),
        "onnxruntime",
        options=BackendOptions(threads=1),
        tta=bool(mirror),
    )
    by_python = predictor.predict(Volume(voxels.astype(np.float32), np.eye(4))).labels
    np.testing.assert_array_equal(found.labels, by_python)
    assert len(np.unique(expected)) > 2
    assert (found.held, found.current, found.objects) == CLEAN


def test_a_scan_of_one_tile(do: Do, machine: Machine, regions: Lines) -> None:
    voxels = np.stack([head_like(TILE[::-1], seed) for seed in range(2)])
    do(on_host.keep_engine, machine, regions.package, regions.engine(batch=2), batch=2)
    found = do(on_host.run, machine, regions.package, voxels)
    assert (found.status, found.again) == ("SGMF_OK", "SGMF_OK"), found.message
    expected = np.empty(voxels.shape[1:], np.uint16, order="F")
    with Handle(regions.package) as handle:
        assert handle.run(volume_of(voxels), labels_of(expected)) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(found.labels, expected)


def test_a_small_budget_changes_no_label(do: Do, machine: Machine, ct: Lines) -> None:
    found = run_engine(do, machine, ct, ct.engine(batch=2))
    small = run_engine(do, machine, ct, ct.engine(batch=2), memory_budget_mib=4)
    assert small.status == "SGMF_OK", small.message
    np.testing.assert_array_equal(small.labels, found.labels)


# Sums on the device ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy libsgmf beside a CUDA library whose kernels run on the processor."""
    folder = tmp_path_factory.mktemp("installation")
    compile_on_host(folder, "-O2")
    return shutil.copy(library_path(), folder / "libsgmf.so.1")


@pytest.fixture
def summing(machine: Machine, installation: Path) -> Machine:
    kernels = installation.with_name("libsgmf_cuda.so")
    return replace(machine, libsgmf=installation, kernels=kernels)


@pytest.mark.parametrize("kind", ["ct", "regions"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", [SHAPE, TILE[::-1]])
def test_labels_of_the_device_are_those_of_the_processor(
    do: Do,
    summing: Machine,
    request: pytest.FixtureRequest,
    kind: str,
    batch: int,
    shape: tuple[int, int, int],
) -> None:
    lines: Lines = request.getfixturevalue(kind)
    voxels = np.stack([head_like(shape, seed) for seed in range(lines.inputs)])
    do(on_host.keep_engine, summing, lines.package, lines.engine(batch=batch), batch=batch)
    found = do(on_host.run, summing, lines.package, voxels)
    assert (found.status, found.again) == ("SGMF_OK", "SGMF_OK"), found.message
    assert found.backend.endswith(f"batch {batch}, sums on the device")
    assert found.on_device
    expected = np.full(shape, 99, np.uint16, order="F")
    with Handle(lines.package) as handle:
        assert handle.run(volume_of(voxels), labels_of(expected)) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(found.labels, expected)
    assert (found.held, found.current, found.objects) == CLEAN


def test_mirrored_logits_are_averaged_on_the_processor(do: Do, summing: Machine, ct: Lines) -> None:
    assert run_engine(do, summing, ct, ct.engine()).on_device
    assert not run_engine(do, summing, ct, ct.engine(), mirror=1).on_device


def test_logits_on_the_device_that_are_no_numbers(do: Do, summing: Machine, ct: Lines) -> None:
    outcome = run_engine(do, summing, ct, ct.engine(nan=1))
    assert_refused(outcome, "SGMF_BACKEND_FAILED", "logits on Host are NaN or infinite")
    assert outcome.again == "SGMF_BACKEND_FAILED"


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_cancelling_sums_on_the_device(do: Do, summing: Machine, ct: Lines, stop_at: int) -> None:
    outcome = run_engine(do, summing, ct, ct.engine(), stop_at=stop_at)
    assert_refused(outcome, "SGMF_CANCELLED", "cancelled")
    assert outcome.again == "SGMF_OK"


@pytest.mark.parametrize(
    "function", ["cuMemAlloc", "cuMemcpyHtoDAsync", "cuStreamSynchronize", "cuEventRecord"]
)
def test_a_device_that_fails_while_summing(
    do: Do, summing: Machine, ct: Lines, function: str
) -> None:
    options = {"fail_while_running": {function: 700}}
    outcome = run_engine(do, summing, ct, ct.engine(batch=2), **options)
    assert_refused(outcome, "SGMF_BACKEND_FAILED", function, "failed with A_NAME: a text")
    assert outcome.again == "SGMF_OK"


def test_too_little_memory_for_sums_is_for_the_processor(
    do: Do, summing: Machine, ct: Lines
) -> None:
    expected = run_engine(do, summing, ct, ct.engine())
    outcome = run_engine(do, replace(summing, most_memory=1 << 20), ct, ct.engine())
    assert outcome.status == "SGMF_OK", outcome.message
    assert (expected.on_device, outcome.on_device) == (True, False)
    np.testing.assert_array_equal(outcome.labels, expected.labels)


# Where the library comes from ------------------------------------------------------------


def test_the_environment_names_the_library(do: Do, machine: Machine, ct: Lines) -> None:
    named = replace(machine, environment={"SGMF_TENSORRT": str(machine.nvinfer)})
    outcome = run_engine(do, named, ct, ct.engine(), backend_library=None)
    assert outcome.status == "SGMF_OK", outcome.message
    named = replace(machine, environment={"SGMF_TENSORRT": "/no/libnvinfer.so"})
    outcome = run_engine(do, named, ct, ct.engine(), backend_library=None)
    words = "the TensorRT of SGMF_TENSORRT cannot be loaded: /no/libnvinfer.so"
    assert_refused(outcome, "SGMF_BACKEND_MISSING", words)


def put_wheel(machine: Machine, site_packages: Path) -> None:
    wheel = site_packages / "tensorrt_libs" / f"libnvinfer.so.{machine.version[0]}"
    wheel.parent.mkdir(parents=True)
    wheel.symlink_to(machine.nvinfer)


def test_the_wheel_of_an_active_environment(
    do: Do, machine: Machine, ct: Lines, tmp_path: Path
) -> None:
    put_wheel(machine, tmp_path / "venv/lib/python3.99/site-packages")
    active = replace(machine, environment={"VIRTUAL_ENV": str(tmp_path / "venv")})
    outcome = run_engine(do, active, ct, ct.engine(), backend_library=None)
    assert outcome.status == "SGMF_OK", outcome.message


def test_the_wheel_beside_which_libsgmf_is_installed(
    do: Do, machine: Machine, ct: Lines, tmp_path: Path
) -> None:
    put_wheel(machine, tmp_path / "site-packages")
    copy = tmp_path / "site-packages/segmaformer/runtime/lib/libsgmf.so.1"
    copy.parent.mkdir(parents=True)
    shutil.copy(library_path(), copy)
    # As a program does that was built with a relative rpath and goes elsewhere.
    do(on_host.load_from, tmp_path / "site-packages/segmaformer", "runtime/lib/libsgmf.so.1")
    installed = replace(machine, libsgmf=copy)
    outcome = run_engine(do, installed, ct, ct.engine(), backend_library=None)
    assert outcome.status == "SGMF_OK", outcome.message


# Refusals: nothing to run with --------------------------------------------------------


def test_without_a_driver(folder: Path, ct: Lines, machine: Machine) -> None:
    if has_nvidia_driver():
        pytest.skip("this machine has a driver")
    with pool_of_one() as pool:
        where = machine.nvinfer, machine.cache, ct.package
        status, said = pool.submit(on_host.open_with, *where).result()
    assert status == "SGMF_BACKEND_MISSING"
    assert "the NVIDIA driver cannot be loaded: libcuda.so.1" in said
    assert "choose the backend onnxruntime" in said


def test_without_the_library(do: Do, machine: Machine, ct: Lines, tmp_path: Path) -> None:
    missing = do(on_host.run, machine, ct.package, scan(1), backend_library=bytes(tmp_path / "no"))
    assert_refused(missing, "SGMF_BACKEND_MISSING", "the TensorRT given cannot be loaded")
    other = do(on_host.run, machine, ct.package, scan(1), backend_library=bytes(library_path()))
    assert_refused(other, "SGMF_BACKEND_MISSING", "is not TensorRT", "Install TensorRT")


@pytest.mark.parametrize("version", [(10, 2, 0, 1), (9, 9, 9, 9), (12, 0, 0, 1), (0, 0, 0, 0)])
def test_a_library_of_another_version(
    do: Do, machine: Machine, ct: Lines, version: tuple[int, ...]
) -> None:
    outcome = run_engine(do, replace(machine, version=version), ct, ct.engine())
    words = f"the library is TensorRT {text(version)}; this libsgmf was built with the headers of"
    assert_refused(outcome, "SGMF_BACKEND_MISSING", words)


def test_a_library_of_the_other_major_version(do: Do, machine: Machine, ct: Lines) -> None:
    other = replace(machine, version=(21 - machine.version[0], 9, 0, 1))
    outcome = run_engine(do, other, ct, ct.engine())
    words = f"built with the headers of TensorRT {machine.version[0]}. Install TensorRT"
    assert_refused(outcome, "SGMF_BACKEND_MISSING", words)


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        ({"cuInit": 100}, "cuInit failed with A_NAME: a text. The driver is installed and finds"),
        ({"devices": 1}, "shows no device; check CUDA_VISIBLE_DEVICES"),
    ],
)
def test_without_a_device(
    do: Do, machine: Machine, ct: Lines, failing: dict[str, int], words: str
) -> None:
    outcome = do(on_host.run, replace(machine, failing=failing), ct.package, scan(1))
    assert_refused(outcome, "SGMF_BACKEND_MISSING", words)


def test_without_an_engine_the_command_is_named(do: Do, machine: Machine, ct: Lines) -> None:
    command = f"run: sgmf build {ct.package} --backend tensorrt --variant fp32"
    outcome = do(on_host.run, machine, ct.package, scan(1))
    assert_refused(outcome, "SGMF_BACKEND_MISSING", "no tensorrt engine of variant fp32", command)
    assert not machine.cache.exists()


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("device", "the device was another, here it is Host"),
        ("compute_capability", "the compute capability was another, here it is 9.0"),
        ("driver", "the driver was another"),
        ("cuda", "CUDA was another, here it is"),
        ("builder_version", "the builder's version was another, here it is 1"),
        ("segmaformer", "segmaformer was another, here it is 0.1.0"),
        ("package_sha256", "the package was another"),
        ("plugin_sha256", "the plugin library was another, here it is none"),
        ("target", "the target was another, here it is none"),
        ("variant", "variant was another, here it is fp32"),
        ("variant_sha256", "there is no tensorrt engine"),
        ("builder", "there is no tensorrt engine"),
    ],
)
def test_an_engine_for_something_else(
    do: Do, machine: Machine, ct: Lines, field: str, words: str
) -> None:
    do(on_host.keep_engine, machine, ct.package, ct.engine(), **{field: "another"})
    outcome = do(on_host.run, machine, ct.package, scan(1))
    assert_refused(outcome, "SGMF_BACKEND_MISSING", words, "run: sgmf build")


# Refusals: what is there is not to be trusted ------------------------------------------


def alter(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"e", b"E", 1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda cache: alter(next(cache.glob("*.engine"))), "SHA-256 of its record"),
        (lambda cache: alter(next(cache.glob("*.engine.json"))), "keyed hash"),
        (lambda cache: (cache / "key").chmod(0o640), "can be read by others"),
        (lambda cache: cache.chmod(0o777), "can be written by others"),
        (lambda cache: cache.parent.chmod(0o770), "above can be written by others"),
    ],
)
def test_an_engine_in_others_reach(
    do: Do, machine: Machine, ct: Lines, spoil: Callable[[Path], None], words: str
) -> None:
    do(on_host.keep_engine, machine, ct.package, ct.engine())
    spoil(machine.cache)
    outcome = do(on_host.run, machine, ct.package, scan(1))
    assert_refused(outcome, "SGMF_BACKEND_FAILED", words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": 2}, "the engine takes (2, 16, 20, 24) of type 0; the manifest says (1, 16,"),
        ({"outputs": 8}, "the engine gives (8, 16, 20, 24) of type 0; the manifest says (9, 16,"),
        ({"tile": "16 24 20"}, "the engine takes (1, 16, 24, 20)"),
        ({"type": 1}, "of type 1; the manifest says (1, 16, 20, 24) of float32"),
        ({"tensors": 3}, "the engine gives (9, 16, 20, 24) of type 0, (9,"),
        ({"tensors": 1}, "the engine takes nothing"),
        ({"batch": 0}, "no number of tiles that it takes at once"),
        ({"context": 0}, "cannot get its memory on Host: no memory for activations. End other"),
    ],
)
def test_an_engine_that_does_not_fit(
    do: Do, machine: Machine, ct: Lines, changes: dict[str, Any], words: str
) -> None:
    outcome = run_engine(do, machine, ct, ct.engine(**changes))
    assert_refused(outcome, "SGMF_BACKEND_FAILED", words)


def test_an_engine_that_is_none(do: Do, machine: Machine, ct: Lines) -> None:
    outcome = run_engine(do, machine, ct, b"code of another age")
    words = "the engine cannot be opened: magicTag does not match; the second of four; the third; "
    assert_refused(outcome, "SGMF_BACKEND_FAILED", words + "build it again")


@pytest.mark.parametrize("returned", [0, 0x228])
def test_a_tensorrt_that_does_not_start(do: Do, machine: Machine, ct: Lines, returned: int) -> None:
    silent = replace(machine, starts=False, instead_of_runtime=returned)
    outcome = run_engine(do, silent, ct, ct.engine())
    version = text(machine.version)
    words = f"TensorRT {version} cannot start here: CUDA initialization failure with error: 35"
    assert_refused(outcome, "SGMF_BACKEND_FAILED", words)


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("cuMemAlloc", 2, "Host has too little memory: 1 MiB were asked for, 61440 of 81920 MiB"),
        ("cuMemHostAlloc", 2, "build with a smaller --batch"),
        ("cuMemHostAlloc", 1, "the NVIDIA driver's cuMemHostAlloc failed with A_NAME: a text"),
        ("cuStreamCreate", 999, "cuStreamCreate failed"),
        ("cuEventCreate", 999, "cuEventCreate failed"),
    ],
)
def test_a_device_that_fails_while_opening(
    do: Do, machine: Machine, ct: Lines, function: str, code: int, words: str
) -> None:
    outcome = run_engine(do, replace(machine, failing={function: code}), ct, ct.engine())
    assert_refused(outcome, "SGMF_BACKEND_FAILED", words)


# Refusals: while running ---------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamWaitEvent", "cuEventRecord"],
)
def test_a_device_that_fails_while_running(
    do: Do, machine: Machine, ct: Lines, function: str
) -> None:
    options = {"fail_while_running": {function: 700}}
    outcome = run_engine(do, machine, ct, ct.engine(batch=2), **options)
    assert_refused(outcome, "SGMF_BACKEND_FAILED", function, "failed with A_NAME: a text")
    assert outcome.again == "SGMF_OK"


def test_work_that_fails_is_seen_when_it_is_waited_for(do: Do, machine: Machine, ct: Lines) -> None:
    options = {"fail_while_running": {"cuStreamSynchronize": 700}}
    outcome = run_engine(do, machine, ct, ct.engine(), **options)
    assert_refused(outcome, "SGMF_BACKEND_FAILED", "cuStreamSynchronize failed with A_NAME")
    assert outcome.again == "SGMF_OK"


def test_a_batch_that_is_refused(do: Do, machine: Machine, ct: Lines) -> None:
    options = {"fail_while_running": {"cuLaunchHostFunc": 700}}
    outcome = run_engine(do, machine, ct, ct.engine(), **options)
    words = "Host refused a batch of (1, 1, 16, 20, 24): it gave no reason"
    assert_refused(outcome, "SGMF_BACKEND_FAILED", words)
    assert outcome.again == "SGMF_OK"


def test_logits_that_are_no_numbers(do: Do, machine: Machine, ct: Lines) -> None:
    outcome = run_engine(do, machine, ct, ct.engine(nan=1))
    assert_refused(outcome, "SGMF_BACKEND_FAILED", "NaN or infinite", "run the fp32 variant")
    assert outcome.again == "SGMF_BACKEND_FAILED"


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_cancelling(do: Do, machine: Machine, ct: Lines, stop_at: int) -> None:
    outcome = run_engine(do, machine, ct, ct.engine(), stop_at=stop_at)
    assert_refused(outcome, "SGMF_CANCELLED", "cancelled")


# The plugin ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_scan(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Write a package whose network has a selective scan."""
    folder = tmp_path_factory.mktemp("scan") / "scan.sgmf"
    return write_ct(folder, doc_string="SelectiveScan")


@pytest.fixture
def alone(machine: Machine, tmp_path: Path) -> Machine:
    """Copy libsgmf to a folder of its own."""
    copy = tmp_path / "lib" / "libsgmf.so.1"
    copy.parent.mkdir()
    shutil.copy(library_path(), copy)
    return replace(machine, libsgmf=copy)


def put_plugin(machine: Machine, content: bytes = b"plugin") -> Path:
    assert machine.libsgmf is not None
    plugin = machine.libsgmf.with_name("libsgmf_tensorrt.so")
    plugin.write_bytes(content)
    return plugin


def test_a_missing_plugin(do: Do, alone: Machine, with_scan: Lines) -> None:
    outcome = do(on_host.run, alone, with_scan.package, scan(1))
    words = f"{alone.libsgmf.parent}/libsgmf_tensorrt.so, is not there"  # type: ignore[union-attr]
    assert_refused(outcome, "SGMF_BACKEND_MISSING", words, "install it whole")


def test_the_plugin_is_registered_once(do: Do, alone: Machine, with_scan: Lines) -> None:
    plugin = put_plugin(alone)
    do(on_host.keep_engine, alone, with_scan.package, with_scan.engine(), plugin=plugin)
    first = do(on_host.run, alone, with_scan.package, scan(1))
    assert first.status == "SGMF_OK", first.message
    second = do(on_host.run, alone, with_scan.package, scan(1))
    assert second.status == "SGMF_OK"
    assert first.plugins == second.plugins


def test_a_network_without_a_scan_needs_no_plugin(do: Do, alone: Machine, ct: Lines) -> None:
    before = run_engine(do, alone, ct, ct.engine())
    assert before.status == "SGMF_OK"
    put_plugin(alone)
    assert run_engine(do, alone, ct, ct.engine()).plugins == before.plugins


def test_an_engine_that_was_built_with_another_plugin(
    do: Do, alone: Machine, with_scan: Lines
) -> None:
    plugin = put_plugin(alone)
    do(on_host.keep_engine, alone, with_scan.package, with_scan.engine(), plugin=plugin)
    put_plugin(alone, b"another build")
    outcome = do(on_host.run, alone, with_scan.package, scan(1))
    assert_refused(
        outcome,
        "SGMF_BACKEND_MISSING",
        "the plugin library was",
        "Builder and libsgmf have to share the plugin",
    )


def test_a_plugin_that_does_not_load(do: Do, alone: Machine, with_scan: Lines) -> None:
    put_plugin(alone)
    outcome = do(on_host.run, replace(alone, plugins_load=False), with_scan.package, scan(1))
    words = "cannot load the plugin", "undefined symbol: cudaOfAnotherAge"
    assert_refused(outcome, "SGMF_BACKEND_FAILED", *words)


# A real TensorRT, as far as it goes without a GPU ------------------------------------------


@pytest.fixture
def real_library(major: int) -> Path:
    """Find the library in a wheel beside this Python; the lean runtime has the same functions."""
    for package, name in (("tensorrt_libs", "nvinfer"), ("tensorrt_lean_libs", "nvinfer_lean")):
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            library = Path(folder) / f"lib{name}.so.{major}"
            if library.is_file():
                return library
    pytest.skip(f"no library of TensorRT {major}; install tensorrt or tensorrt-lean-cu12-libs")


def test_a_real_library_says_its_version_and_its_errors(
    do: Do, machine: Machine, ct: Lines, real_library: Path
) -> None:
    where = real_library, machine.cache, ct.package
    do(on_host.keep_engine, machine, ct.package, ct.engine(), builder_version="1.2.3")
    status, said = do(on_host.open_with, *where)
    assert status == "SGMF_BACKEND_MISSING"
    version = re.search(r"the builder's version was 1\.2\.3, here it is ([0-9.]+)\)", said)
    assert version is not None, said
    do(on_host.keep_engine, machine, ct.package, ct.engine(), builder_version=version[1])
    status, said = do(on_host.open_with, *where)
    assert status == "SGMF_BACKEND_FAILED"
    assert f"TensorRT {version[1]} cannot start here: " in said
    assert "CUDA initialization failure" in said


# Building ------------------------------------------------------------------------------


def test_every_header_compiles_the_session(tmp_path: Path) -> None:
    folders = tensorrt_include_dirs()
    if not folders:
        pytest.skip("no TensorRT headers; install TensorRT's or set TENSORRT_INCLUDE_DIR")
    shared = (f"-I{NATIVE}", "-isystem", str(json_headers()), '-DSGMF_LIBRARY_VERSION="0"')
    for headers in folders:
        includes = ("-isystem", str(headers), "-isystem", str(cuda_include_dir()))
        output = tmp_path / "libsession.so"
        compile_library(output, SESSION, *shared, *includes, "-fsyntax-only")


def test_nothing_new_is_linked_or_shown() -> None:
    listing = subprocess.run(
        ["ldd", str(library_path())], capture_output=True, text=True, check=False
    ).stdout
    assert not re.search("nvinfer|libcuda", listing)
    assert all(name.startswith(("sgmf_", "SGMF_")) for name in exported_symbols(library_path()))
