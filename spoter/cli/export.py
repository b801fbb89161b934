"""The command `spoter export`: a model folder's graphs, for the runtimes onnx and onnx-int8."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.cli.options import ModelGroupRegex, SkipBad, print_skipped
from spoter.errors import SpoterError

if TYPE_CHECKING:
    from spoter.model.folder import ModelFolder
    from spoter.training.evaluation.quantize import QuantizedModel


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as models/dgs11.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Write model-int8.onnx too, calibrated on --data and judged beside it.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="With --int8: the labelled clips that MODEL was trained on.")
    ] = None,
    left_out: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="With --int8: clips of cameras or people left out of training, to judge on "
            "(default: the validation and test groups of MODEL's split.json).",
        ),
    ] = None,
    group_regex: ModelGroupRegex = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write MODEL as graphs for ONNX Runtime, which serve without torch: model.onnx, and smaller model-int8.onnx.

    model.onnx is compared with torch before it is written. The 8-bit form is refused where it names more than half a
    point less of the left-out clips right; then nothing is written.

    What serves is chosen by "runtime" in config.json or by build_mar.py --runtime.
    """
    if int8 != (data is not None) or (left_out is not None and not int8):
        raise SpoterError("found --int8 without --data, or clips without --int8; expected --int8 --data DATA, or none")
    from spoter.files import atomic_write_bytes, exclusive_lock
    from spoter.model.folder import WEIGHTS, file_sha256, load_model_folder
    from spoter.runtime.onnx_export import TOLERANCE, export_graph
    from spoter.runtime.onnx_runtime import GRAPH, INT8_GRAPH

    # Read once: the weights must not be replaced between what the graph is made of and what it notes.
    with exclusive_lock(model):
        loaded = load_model_folder(model)
        _say(f"{model}: writing it as a graph, and comparing its answers with torch's …")
        written = {GRAPH: export_graph(loaded, file_sha256(model / WEIGHTS))}
        notes = {GRAPH: f"torch's answers to {TOLERANCE:g}"}
        if int8:
            judged = _int8(model, loaded, written[GRAPH], data, left_out, group_regex, skip_bad)
            written[INT8_GRAPH] = judged.graph
            notes[INT8_GRAPH] = (
                f"calibrated on {judged.calibrated} clips; top-1 on {judged.judged} left-out clips "
                f"{100 * judged.top1_int8:.2f} % (float32 {100 * judged.top1:.2f} %), "
                f"the same gloss for {100 * judged.agreed:.1f} %"
            )
        for name, content in written.items():
            atomic_write_bytes(model / name, content)
            print(f"{model / name}  {len(content):,} bytes; {notes[name]}")


def _int8(
    model: Path,
    loaded: ModelFolder,
    graph: bytes,
    data: Path,
    left_out: Path | None,
    group_regex: str | None,
    skip_bad: bool,
) -> QuantizedModel:
    """Return the graph in 8 bits, judged; what was left out of the data is told on stderr."""
    from spoter.training.data import read_dataset
    from spoter.training.data.split_record import find_split, reading_options
    from spoter.training.evaluation.quantize import Sides, quantize_and_evaluate

    options = reading_options(find_split(model), group_regex, skip_bad)
    sets = [read_dataset(path, **options, progress=True) if path else None for path in (data, left_out)]
    print_skipped(skip for one in sets if one is not None for skip in one.skipped)
    sides = Sides.of(model, loaded.glosses, *sets, skip_bad=options["skip_bad"])
    _say(f"calibrating on {len(sides.train)} clips, judging on {len(sides.left_out)} …")
    return quantize_and_evaluate(loaded, graph, sides, progress=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
