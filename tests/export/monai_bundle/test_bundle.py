from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bundles import INFERENCE, METADATA, compose, inference, write_bundle

from segmaformer.export.monai_bundle.bundle import load_bundle
from segmaformer.export.monai_bundle.configuration import Component, Configuration
from segmaformer.export.monai_bundle.networks import build_network
from segmaformer.runtime.errors import InputError


def state(definition: dict[str, Any]) -> bytes:
    """Return random weights of a network, as a bundle holds them."""
    nets = pytest.importorskip("monai").networks.nets
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    torch.manual_seed(0)
    stream = io.BytesIO()
    torch.save(getattr(nets, definition["_target_"])(**arguments).state_dict(), stream)
    return stream.getvalue()


def test_a_published_form_becomes_a_checkpoint(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "spleen", inference(), weights=state(INFERENCE["network_def"]))
    lines: list[str] = []
    checkpoint = load_bundle(folder, report=lines.append)
    assert checkpoint.arch == "monai.UNet"
    assert checkpoint.tiling.tile == (32, 32, 16)
    assert checkpoint.tiling.scheme == "monai"
    assert not checkpoint.tiling.gaussian
    assert [label.name for label in checkpoint.output.labels] == ["background", "spleen"]
    assert checkpoint.output.interpolated == "probabilities"
    assert checkpoint.preprocessing.normalization[0].scheme == "ct"
    assert ["SaveImaged" in line or "sw_batch_size" in line for line in lines] == [True, True]
    assert "bundle spleen, version 0.5.8" in checkpoint.assumptions[0]


def test_nested_masks_come_in_painting_order(tmp_path: Path) -> None:
    names = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}
    metadata = {
        "network_data_format": {
            "inputs": {"image": {"modality": "MR", "num_channels": 4}},
            "outputs": {"pred": {"num_channels": 3, "channel_def": names}},
        }
    }
    network = {**INFERENCE["network_def"], "in_channels": 4, "out_channels": 3}
    chain = {"keys": "pred"}
    configuration = inference(
        network_def=network,
        preprocessing=compose(
            {"_target_": "LoadImaged", "keys": "image"},
            {
                "_target_": "NormalizeIntensityd",
                "keys": "image",
                "nonzero": True,
                "channel_wise": True,
            },
        ),
        postprocessing=compose(
            {"_target_": "Activationsd", "sigmoid": True, **chain},
            {"_target_": "AsDiscreted", "threshold": 0.5, **chain},
        ),
    )
    folder = write_bundle(tmp_path / "brats", configuration, metadata, state(network))
    checkpoint = load_bundle(folder)
    tile = torch.rand(1, 4, 32, 32, 16)
    with torch.inference_mode():
        found = checkpoint.model(tile)
        plain = checkpoint.model.network(tile)  # type: ignore[operator, union-attr]
    assert torch.equal(found, plain[:, [1, 0, 2]])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"inferer": {"_target_": "SimpleInferer"}}, "inferer is SimpleInferer"),
        ({"inferer": {**INFERENCE["inferer"], "padding_mode": "reflect"}}, "padding_mode"),
        ({"inferer": {**INFERENCE["inferer"], "roi_size": [-1, 32, 32]}}, "positive voxel"),
        ({"inferer": {**INFERENCE["inferer"], "overlap": [0.5, 0.25, 0.5]}}, "the same along"),
        ({"inferer": {**INFERENCE["inferer"], "roi_size": "$[96] * 3"}}, "not evaluated"),
        ({"evaluator": {"inferer": "@other"}}, r"evaluator\.inferer is '@other'"),
        ({"dataset": {"transform": "$@preprocessing + @more"}}, r"dataset\.transform"),
        ({"network_def": {"_target_": "os.system", "command": "touch run"}}, r"'os\.system'"),
        ({"network_def": {"_target_": "scripts.unest.UNesT"}}, r"'scripts\.unest\.UNesT'"),
        ({"network_def": {"_target_": "monai.networks.nets.DiNTS"}}, "'DiNTS'"),
        ({"network_def": "$torch.jit.load('x')"}, "not evaluated"),
        ({"preprocessing": "$monai.transforms.Compose(@chain)"}, "not evaluated"),
        ({"preprocessing": {"_target_": "Compose", "transforms": "$@a + @b"}}, "written out"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], complaint: str
) -> None:
    folder = write_bundle(tmp_path / "bundle", inference(**changed))
    with pytest.raises(InputError, match=complaint):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("UNet", {"surprise": 1}, "arguments surprise"),
        ("UNet", {"out_channels": 3}, "states 2 channels"),
        ("UNet", {"spatial_dims": 2}, "expected 3"),
        ("UNet", {"act": "$torch.nn.ReLU"}, "not evaluated"),
        ("DynUNet", {"filters": "@absent"}, "not there"),
    ],
)
def test_arguments_are_checked(name: str, arguments: dict[str, Any], complaint: str) -> None:
    component = Component(name, arguments, "network_def")
    with pytest.raises(InputError, match=complaint):
        build_network(component, Configuration("inference.json", {}), 1, 2, lambda line: None)


def test_what_monai_does_not_take_is_named() -> None:
    pytest.importorskip("monai")
    component = Component("UNet", {"channels": [4], "strides": []}, "network_def")
    with pytest.raises(InputError, match="MONAI cannot build UNet"):
        build_network(component, Configuration("inference.json", {}), 1, 2, lambda line: None)


def test_code_of_a_bundle_is_never_run(tmp_path: Path) -> None:
    """Load a bundle full of code in a process that reports what it imported."""
    mark = tmp_path / "run"
    code = f"$__import__('pathlib').Path({str(mark)!r}).touch()"
    folder = write_bundle(
        tmp_path / "bundle",
        inference(
            imports=[code], run=[code], initialize=[code], network_def={"_target_": "scripts.Net"}
        ),
        {**METADATA, "version": code},
    )
    program = (
        "import sys; from pathlib import Path\n"
        "from segmaformer.export.monai_bundle.bundle import load_bundle\n"
        "from segmaformer.runtime.errors import InputError\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "try: load_bundle(Path(sys.argv[1]))\n"
        "except InputError as error: print(error)\n"
        "print('scripts' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,  # away from the sources, which lie otherwise than the installed package
    )
    assert "'scripts.Net'" in done.stdout
    assert done.stdout.endswith("False\n")
    assert not mark.exists()
