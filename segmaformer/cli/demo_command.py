"""``sgmf demo``: the whole path on what the installation carries."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from segmaformer.cli.extras import require_extra
from segmaformer.cli.infer_command import Case, Extras, progress_bar, write_results

CHECKPOINT = "reference_models/hippocampus/checkpoint_final.pth"


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("sgmf-demo"),
    show_default=True,
    help="Folder for everything the demo writes.",
)
def command(output: Path) -> None:
    """Export the bundled hippocampus model, verify it and segment a template brain.

    The scan is the region around one hippocampus of the ICBM152 T1 template.
    """
    require_extra("torch", "onnx", "onnxscript", extra="export")
    require_extra("nilearn", extra="demo")
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.demo_scan import demo_scan
    from segmaformer.export.pipeline import ExportOptions, export_package
    from segmaformer.runtime.predictor import Predictor

    output.mkdir(parents=True, exist_ok=True)
    scan = demo_scan(output)
    click.echo(f"scan: {scan}", err=True)
    with resources.as_file(resources.files("segmaformer") / CHECKPOINT) as checkpoint:
        package = export_package(
            load_checkpoint(checkpoint),
            output / "hippocampus.sgmf",
            ExportOptions(fp16=True, verify_scan=(scan,), overwrite=True),
            report=lambda message: click.echo(message, err=True),
        )
    predictor = Predictor(package)
    click.echo(f"inference: {predictor.backend}", err=True)
    case = Case((scan,), output / "labels.nii.gz")
    with progress_bar() as progress:
        segmentation = predictor.predict(scan, progress=progress)
    segmentation.save(case.output)
    results = write_results(segmentation, case, Extras(preview=True, stats=True))
    for label in results["statistics"]["labels"]:
        click.echo(f"{label['name']}: {label['volume_mm3'] / 1000:.2f} ml", err=True)
    for what in ("package", "output", "preview", "stats"):
        click.echo(package.path if what == "package" else results[what])
