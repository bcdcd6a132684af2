"""``sgmf export-triton``: add a package to a model repository of Triton."""

from __future__ import annotations

from pathlib import Path

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import print_path
from segmaformer.cli.package_parameters import (
    PACKAGE_FOLDER,
    model_name,
    open_package,
    trust_options,
)
from segmaformer.cli.parameters import (
    backend_option,
    check_variants,
    memory_budget_option,
    threads_option,
)
from segmaformer.runtime.backends import DEVICES, Device
from segmaformer.triton.repository import write_model


@click.command("export-triton")
@click.argument("package", type=PACKAGE_FOLDER)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="REPOSITORY",
    help="Folder of the model repository; it may hold other models.",
)
@click.option("--name", help="Name of the model. Default: that of the folder, without .sgmf.")
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of volumes to segment side by side; with --device cuda, on each GPU.",
)
@click.option("--variant", help="Variant to run. Default: as for `sgmf infer`.")
@backend_option
@click.option(
    "--device",
    type=NamedChoice(DEVICES),
    default="cpu",
    show_default=True,
    help="Device of the instances.",
)
@threads_option
@memory_budget_option
@trust_options
def command(
    package: Path,
    output: Path,
    name: str | None,
    instances: int,
    variant: str | None,
    backend: str,
    device: Device,
    threads: int | None,
    memory_budget: int | None,
) -> None:
    """Write a model repository for NVIDIA's Triton Inference Server that serves PACKAGE.

    Triton's Python backend runs it, so the server's Python needs segmaformer. A request holds the
    voxels and the affine of a scan; the answer holds its labels.
    """
    name = model_name(package, name)
    opened = open_package(package)
    if variant is not None:
        check_variants(opened.manifest, [variant])
    chosen = {
        "backend": backend,
        "variant": variant,
        "threads": threads,
        "memory_budget_mib": memory_budget,
    }
    parameters = {key: str(value) for key, value in chosen.items() if value is not None}
    print_path(
        write_model(opened, output, name, device=device, instances=instances, parameters=parameters)
    )
