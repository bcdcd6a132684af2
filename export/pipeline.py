"""Export of a checkpoint to a verified package."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

import segmaformer
from segmaformer.calibration.calibrate import CalibrationOptions, calibrate
from segmaformer.calibration.tiles import TileOptions
from segmaformer.checkpoint import Checkpoint
from segmaformer.export.float16 import float32_ladder, to_float16
from segmaformer.export.label_codes.tables import label_codes
from segmaformer.export.onnx_export import export_onnx
from segmaformer.export.own_network.onnx_network import NAMES, OnnxNetwork
from segmaformer.export.rewrites import apply_rewrites, rewrite_for_cpu, rewrite_norms
from segmaformer.export.verification.parity_gate import PYTORCH, ParityGate, Verdict
from segmaformer.export.verification.recorded_reference import (
    RecordedCheck,
    RecordedTile,
    compare_recorded,
    read_recorded,
)
from segmaformer.runtime.backends import open_session, run_checked
from segmaformer.runtime.backends.onnxruntime_cpu import import_onnxruntime
from segmaformer.runtime.errors import InputError, ParityError
from segmaformer.runtime.package.card import model_card
from segmaformer.runtime.package.codes import LabelCodes
from segmaformer.runtime.package.manifest import (
    EXACT_VARIANT,
    PREVIOUS_STAGE,
    FileRecord,
    Manifest,
    Network,
    Variant,
)
from segmaformer.runtime.package.reader import MANIFEST_FILE, Package
from segmaformer.runtime.package.writer import staged_package, write_files
from segmaformer.runtime.parity.stored_reference import (
    REFERENCE_FILE,
    pack_reference,
    reference_tile,
)
from segmaformer.runtime.parity.tiles import phantom_tiles, tiles_from_scan
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.progress import Report
from segmaformer.runtime.scans.digest import sha256_of_scan
from segmaformer.runtime.system.digest import sha256_of
from segmaformer.runtime.system.interruption import check


@dataclass(frozen=True)
class ExportOptions:
    """Contents and checks of an export.

    Attributes
    ----------
    fp16
        Write fp16.onnx beside fp32.onnx.
    calibration_data
        Folder of scans to calibrate int8 variants on; None writes none.
    verify_scan
        Files or DICOM folders of the scan on whose tiles parity is decided, one for each channel;
        empty uses phantoms.
    reference
        Files of logits that another machine recorded of the same network, one for each tile; see
        :mod:`segmaformer.export.verification.recorded_reference`.
    reading
        Choices about reading these scans.
    overwrite
        Replace a package of the same name.
    names
        Write the names of scans into the package, besides their SHA-256.
    codes
        Name of a ready table of label codes, or a file of them, see
        :func:`segmaformer.export.label_codes.tables.read_codes`; None writes none.
    """

    fp16: bool = False
    calibration_data: Path | None = None
    verify_scan: Sequence[Path] = ()
    reference: Sequence[Path] = ()
    reading: ScanOptions = ScanOptions()  # noqa: RUF009  (frozen)
    overwrite: bool = False
    names: bool = False
    codes: str | None = None


def export_package(
    checkpoint: Checkpoint,
    target: str | Path,
    options: ExportOptions = ExportOptions(),
    *,
    report: Report = lambda message: None,
) -> Package:
    """Write a package whose networks were compared with PyTorch float32.

    Parameters
    ----------
    checkpoint
        Result of :func:`segmaformer.checkpoint.load_checkpoint`.
    target
        Package directory to create, usually ``NAME.sgmf``.
    options
        See :class:`ExportOptions`.
    report
        Called with a line of text as each stage begins or ends.

    Returns
    -------
    Package
        The new package, opened.

    Raises
    ------
    ParityError
        A variant's results differ from PyTorch's; nothing is written.
    InputError, GeometryError
        The checkpoint does not state its tile or preprocessing, or is of a cascade without its
        first stage; or the scans for verification or calibration, or the codes, cannot be used.
    FileNotFoundError, FileExistsError, PermissionError
        `target` cannot be written; see
        :func:`segmaformer.runtime.package.writer.staged_package`.
    """
    target = Path(target)
    _check_cascade(checkpoint, options)
    recorded = _recorded_tiles(checkpoint, options)
    checkpoint = checkpoint.in_painting_order()
    codes = label_codes(options.codes, checkpoint.output, report)
    with staged_package(target, overwrite=options.overwrite) as staging:
        first = _first_stage(checkpoint, staging, options, report)
        tiles, tiles_from = _verification_tiles(checkpoint, options)
        names = NAMES if isinstance(checkpoint.model, OnnxNetwork) else PYTORCH
        report(f"reference: {names.plain} on {tiles_from}")
        gate = ParityGate(checkpoint.model, tiles, staging, report, names)
        manifest = dataclasses.replace(
            _manifest(checkpoint, target.name.removesuffix(".sgmf"), tiles_from, codes), files=first
        )
        stored = _stored_reference(manifest, gate)
        graph, cpu_graph = _traced(checkpoint, report)
        half = rewrite_norms(graph)[0] if options.fp16 else None
        del graph
        writer = _Writer(staging, manifest, gate, recorded, report)
        writer.write(EXACT_VARIANT, cpu_graph, {"default": "float32"})
        del cpu_graph
        _free_graphs()
        exact = writer.judge(EXACT_VARIANT, exact=True)
        if exact.refusal is not None:
            raise ParityError(exact.refusal)
        if half is not None:
            _add_float16(writer, half, checkpoint.arch, report)
        writer.finish({REFERENCE_FILE: stored})
        if options.calibration_data is not None:
            calibrate(
                staging,
                options.calibration_data,
                CalibrationOptions(
                    tiles=TileOptions(reading=options.reading),
                    resumable=False,
                    names=options.names,
                    trust=None,
                ),
                report=report,
            )
    return Package.open(target, None)


def _check_cascade(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Refuse a cascade without its first stage, and checks that know no masks of labels."""
    if checkpoint.plan is None or checkpoint.previous_stage is None:
        return
    if checkpoint.first is None:
        raise InputError(
            f"{checkpoint.path} is the second stage of a cascade and takes the labels of "
            f"{checkpoint.plan.previous}; give that training: sgmf export {checkpoint.path} "
            "--previous-stage FOLDER"
        )
    if options.verify_scan or options.reference or options.calibration_data is not None:
        raise InputError(
            "a cascade's networks are compared on phantoms and have no int8 variants; leave "
            "--verify-scan, --reference and --int8 out"
        )


def _first_stage(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, report: Report
) -> dict[str, FileRecord]:
    """Write a cascade's first network into the folder of the package, and list its files."""
    if checkpoint.first is None:
        return {}
    report(f"first stage: {checkpoint.first.arch}, {checkpoint.first.parameters:,} parameters")
    own = ExportOptions(fp16=options.fp16)
    package = export_package(checkpoint.first, folder / PREVIOUS_STAGE, own, report=report)
    report(f"second stage: {checkpoint.arch}")
    names = (MANIFEST_FILE, *package.manifest.files)
    return {
        f"{PREVIOUS_STAGE}/{name}": FileRecord(
            sha256_of(package.path / name), (package.path / name).stat().st_size
        )
        for name in names
    }


def _verification_tiles(checkpoint: Checkpoint, options: ExportOptions) -> tuple[np.ndarray, str]:
    tiling = checkpoint.tiling
    if not options.verify_scan:
        normalization, masks = checkpoint.preprocessing.normalization, checkpoint.masks
        tiles = phantom_tiles(normalization, tiling.tile, masks=masks)
        return tiles, f"{_count(tiles)} of phantoms (no scan was given)"
    tiles = tiles_from_scan(
        options.verify_scan, checkpoint.preprocessing, tiling, options=options.reading
    )
    names = "".join(f" {path.name}," for path in options.verify_scan) if options.names else ""
    digests = ", ".join(map(sha256_of_scan, options.verify_scan))
    told = "".join(f"; {note}" for note in options.reading.notes())
    return tiles, f"{_count(tiles)} of a scan,{names} SHA-256 {digests}{told}"


def _recorded_tiles(checkpoint: Checkpoint, options: ExportOptions) -> list[RecordedTile]:
    """Read recorded logits, which have the order of the checkpoint's outputs, in the package's."""
    if not options.reference:
        return []
    tile = checkpoint.tiling.tile
    shapes = (len(checkpoint.preprocessing.channels), *tile), (checkpoint.output.channels, *tile)
    order = () if checkpoint.published is None else checkpoint.published.head_order
    return [read_recorded(path, *shapes, order) for path in options.reference]


def _count(tiles: np.ndarray) -> str:
    return "1 tile" if len(tiles) == 1 else f"{len(tiles)} tiles"


def _traced(checkpoint: Checkpoint, report: Report) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Trace the network in two forms: one that every backend runs, and the best for the CPU."""
    graph, rewrites = apply_rewrites(_graph(checkpoint, report))
    _free_graphs()
    cpu_graph, cpu_rewrites = rewrite_for_cpu(graph)
    if changed := sum((*rewrites.values(), *cpu_rewrites.values())):
        report(f"replaced {changed} parts of the network by equal ones, faster or more accurate")
    return graph, cpu_graph


def _graph(checkpoint: Checkpoint, report: Report) -> onnx.ModelProto:
    if isinstance(checkpoint.model, OnnxNetwork):
        return checkpoint.model.graph
    report("tracing the network")
    channels = len(checkpoint.preprocessing.channels) + checkpoint.masks
    return export_onnx(checkpoint.model, checkpoint.tiling.tile, channels, report=report)


def _free_graphs() -> None:
    """Free graphs that were rewritten: their nodes refer to one another, and to the weights."""
    gc.collect()


def _stored_reference(manifest: Manifest, gate: ParityGate) -> bytes:
    """Serialise the reference for other machines: of a phantom, even if a scan decided parity."""
    tile = reference_tile(manifest)
    return pack_reference(tile, gate.expected(tile[0]), manifest)


def _add_float16(writer: _Writer, graph: onnx.ModelProto, network: str, report: Report) -> None:
    """Add fp16; where rounding shows in the labels, with fewer operators in float16."""
    refusal: str | None = None
    tried: dict[str, str] = {}
    for rung in float32_ladder(network):
        half, precision = to_float16(graph, float32_ops=rung.float32_ops)
        if precision == tried:  # the graph has none of the operators that this rung adds
            continue
        if refusal is not None:
            report(f"{refusal}; trying again with fewer operators in float16")
        writer.write("fp16", half, precision)
        del half
        refusal = writer.judge("fp16", exact=False, rung=rung.name).refusal
        if refusal is None:
            return
        tried = precision
    raise ParityError(refusal or "fp16 was not tried")


class _Writer:
    """Writer of variants to the staging folder, each compared through the runtime."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        gate: ParityGate,
        recorded: Sequence[RecordedTile],
        report: Report,
    ):
        self._folder = folder
        self._manifest = self._candidate = manifest
        self._gate = gate
        self._recorded = recorded
        self._report = report

    def write(self, name: str, graph: onnx.ModelProto, precision: dict[str, str]) -> None:
        """Write one variant, to be judged; in memory the writer keeps nothing of it."""
        check()
        file = f"{name}.onnx"
        variants = {**self._manifest.variants, name: Variant(file, precision, {})}
        self._candidate = write_files(
            self._folder,
            dataclasses.replace(self._manifest, variants=variants),
            {file: graph.SerializeToString(deterministic=True)},
            kept=self._manifest.files,
        )

    def judge(self, name: str, *, exact: bool, rung: str | None = None) -> Verdict:
        """Compare the variant that was written; it stays in the package if it passes."""
        output = self._manifest.output
        found, recorded = self._run(name, self._recorded if exact else ())
        parity = self._gate.compare(found, output, exact=exact)
        scans = None
        if exact:
            scans = self._gate.check_scans(Package.open(self._folder, None).network(name))
        verdict = Verdict(name, parity, exact, scans, recorded, rung, self._gate.names.program)
        if verdict.refusal is None:
            variants = dict(self._candidate.variants)
            variants[name] = dataclasses.replace(variants[name], parity=verdict.record())
            self._manifest = dataclasses.replace(self._candidate, variants=variants)
            self._report(verdict.figures)
        return verdict

    def _run(
        self, name: str, recorded: Sequence[RecordedTile]
    ) -> tuple[list[np.ndarray], RecordedCheck | None]:
        """Compute the variant's logits on every tile, and close its session."""
        session = open_session(
            Package.open(self._folder, None), backend="onnxruntime", variant=name
        )

        def compute(tile: np.ndarray) -> np.ndarray:
            return run_checked(session, tile[None])[0]

        compared = compare_recorded(recorded, compute, self._manifest.output)
        return self._gate.run(name, compute), compared

    def finish(self, others: dict[str, bytes]) -> None:
        """Write the card, other files and the final manifest."""
        files = {**others, "card.md": model_card(self._manifest).encode()}
        write_files(self._folder, self._manifest, files, kept=self._manifest.files)


def _manifest(
    checkpoint: Checkpoint, name: str, tiles_from: str, codes: dict[str, LabelCodes]
) -> Manifest:
    network = Network(
        name=checkpoint.arch,
        config=checkpoint.config,
        parameters=checkpoint.parameters,
        checkpoint_file=_text(checkpoint.path.name),
        checkpoint_sha256=checkpoint.sha256,
        trainer=checkpoint.trainer,
        assumptions=tuple(map(_text, checkpoint.assumptions)),
        licence=None if checkpoint.licence is None else _text(checkpoint.licence),
    )
    return Manifest(
        name=_text(name),
        network=network,
        preprocessing=checkpoint.preprocessing,
        tiling=checkpoint.tiling,
        output=checkpoint.output,
        variants={},
        verification_tiles=_text(tiles_from),
        software=_software(),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        codes=codes,
        previous_stage=checkpoint.previous_stage,
        postprocessing=checkpoint.postprocessing,
    )


def _text(text: str) -> str:
    """Replace bytes of file names that are no text, which no document can hold, by ``?``."""
    return text.encode(errors="replace").decode()


def _software() -> dict[str, str]:
    import onnxscript

    return {
        "segmaformer": segmaformer.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "onnxruntime": import_onnxruntime().__version__,
        "numpy": np.__version__,
    }
