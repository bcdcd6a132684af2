"""``sgmf demo``: export, verify and segment with data that the installation carries."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

import click

from segmaformer.cli.cases import Case
from segmaformer.cli.commands.models import add_model
from segmaformer.cli.console import print_path, progress_bar, say
from segmaformer.cli.segment_case import segment_cases
from segmaformer.runtime.package.store import ModelStore
from segmaformer.runtime.results.statistics import MM3_PER_ML
from segmaformer.runtime.system.extras import require_extra

CHECKPOINT = "reference_models/brain/checkpoint_final.pth"


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("sgmf-demo"),
    show_default=True,
    help="Folder for everything the demo writes.",
)
@click.option(
    "--keep-model",
    is_flag=True,
    help="Add the package to your models as brain, see `sgmf models`.",
)
def command(output: Path, keep_model: bool) -> None:
    """Export the bundled brain model, verify it and segment the ICBM152 T1 template."""
    require_extra("torch", "onnx", "onnxscript", extra="export")
    require_extra("nilearn", extra="demo")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.demo_scan import demo_scan
    from segmaformer.export.pipeline import ExportOptions, export_package
    from segmaformer.runtime.predictor import Predictor

    store = ModelStore() if keep_model else None
    output.mkdir(parents=True, exist_ok=True)
    scan = demo_scan(output)
    say(f"scan: {scan}")
    with bundled_checkpoint() as checkpoint:
        package = export_package(
            load_checkpoint(checkpoint),
            output / "brain.sgmf",
            ExportOptions(fp16=True, verify_scan=(scan,), overwrite=True),
            report=say,
        )
    predictor = Predictor(package)
    say(f"inference: {predictor.backend}")
    case = Case(
        (scan,),
        label_map=output / "labels.nii.gz",
        preview=output / "labels.png",
        statistics=output / "labels.json",
        report=output / "labels.html",
    )
    ((_, document),) = segment_cases(predictor, [case], progress_bar, say)
    if isinstance(document, Exception):
        raise document
    for label in document["statistics"]["labels"]:
        say(f"{label['name']}: {label['volume_mm3'] / MM3_PER_ML:.2f} ml")
    for path in (package.path, *case.results):
        print_path(path)
    if (
        store is not None
    ):  # last, since a package that is not signed is refused once a key is trusted
        add_model(store, package.path, package.path.stem, replace=True)


def bundled_checkpoint() -> AbstractContextManager[Path]:
    """Provide the bundled reference model as a file."""
    return resources.as_file(resources.files("segmaformer") / CHECKPOINT)
