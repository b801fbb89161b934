"""The command `spoter export`: a model folder's graphs, for the runtimes onnx and onnx-int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import Model, ModelGroupRegex, SkipBad, note, read_clips
from spoter.errors import SpoterError


def export(
    model: Model,
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
    from spoter.model.torch_dependency import require_torch

    require_torch("spoter export")
    from spoter.files import atomic_write_bytes, exclusive_lock, file_sha256
    from spoter.model.folder import GRAPH, INT8_GRAPH, WEIGHTS, load_model_folder
    from spoter.runtime.onnx_export import TOLERANCE, export_graph

    # The lock keeps the weights from being replaced between writing the graph and noting their digest in it.
    with exclusive_lock(model):
        loaded = load_model_folder(model)
        note(f"{model}: writing it as a graph, and comparing its answers with torch's …")
        graph = export_graph(loaded, file_sha256(model / WEIGHTS))
        written = {GRAPH: (graph, f"torch's answers to {TOLERANCE:g}")}
        if data:
            from spoter.training.data.split_record import find_split, reading_options
            from spoter.training.evaluation.quantize import quantize_and_evaluate, select_clips

            options = reading_options(find_split(model), group_regex, skip_bad)
            clips, others = read_clips(data, **options), read_clips(left_out, **options) if left_out else None
            train, evaluated = select_clips(model, loaded.glosses, clips, others, options["skip_bad"])
            note(f"calibrating on {len(train)} clips, judging on {len(evaluated)} …")
            quantized = quantize_and_evaluate(loaded, graph, train, evaluated)
            written[INT8_GRAPH] = (
                quantized.graph,
                f"calibrated on {quantized.calibrated} clips; top-1 on {quantized.evaluated} left-out clips "
                f"{100 * quantized.top1_int8:.2f} % (float32 {100 * quantized.top1:.2f} %), "
                f"the same gloss for {100 * quantized.agreed:.1f} %",
            )
        for name, (content, remark) in written.items():
            atomic_write_bytes(model / name, content)
            print(f"{model / name}  {len(content):,} bytes; {remark}")
