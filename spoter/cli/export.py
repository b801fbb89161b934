"""The command `spoter export`: graphs of a model for the runtimes onnx and onnx-int8."""

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import Model, ModelGroupRegex, SkipBad, note, read_clips
from spoter.errors import SpoterError


def export(
    model: Model,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write model-int8.onnx, calibrated and evaluated on --data.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="With --int8: labeled clips that MODEL was trained on.")
    ] = None,
    left_out: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="With --int8: clips of groups left out of training, to evaluate on.",
            show_default="validation and test groups in split.json",
        ),
    ] = None,
    group_regex: ModelGroupRegex = None,
    skip_bad: SkipBad = False,
) -> None:
    """Export MODEL to ONNX, for serving without torch.

    Writes model.onnx, if its answers equal torch's, and with --int8 also the smaller model-int8.onnx. If int8 loses
    more than half a percentage point of top-1 accuracy on the left-out clips, nothing is written.

    "runtime" in config.json or `spoter pack --runtime` selects the graph that serves.
    """
    if int8 != (data is not None) or (left_out is not None and not int8):
        raise SpoterError("expected --int8 and --data together, and --left-out only with both")
    from spoter.model.torch_dependency import require_torch

    require_torch("spoter export")
    from spoter.files import atomic_write_bytes, exclusive_lock, file_sha256
    from spoter.model.folder import GRAPH, INT8_GRAPH, WEIGHTS, load_model_folder
    from spoter.runtime.onnx_export import TOLERANCE, export_graph

    # The lock prevents that the weights are replaced before their digest is in the graph.
    with exclusive_lock(model):
        loaded = load_model_folder(model)
        note(f"{model}: exporting, and comparing the answers with torch's …")
        graph = export_graph(loaded, file_sha256(model / WEIGHTS))
        written = {GRAPH: (graph, f"answers equal torch's to {TOLERANCE:g}")}
        if data:
            from spoter.training.data.split_record import find_split, reading_options
            from spoter.training.evaluation.quantize import quantize_and_evaluate, select_clips

            options = reading_options(find_split(model), group_regex, skip_bad)
            clips, others = read_clips(data, **options), read_clips(left_out, **options) if left_out else None
            train, evaluated = select_clips(model, loaded.glosses, clips, others, options["skip_bad"])
            note(f"calibrating on {len(train)} clips, evaluating on {len(evaluated)} clips …")
            quantized = quantize_and_evaluate(loaded, graph, train, evaluated)
            written[INT8_GRAPH] = (
                quantized.graph,
                f"calibrated on {quantized.calibrated} clips; top-1 on {quantized.evaluated} left-out clips "
                f"{100 * quantized.top1_int8:.2f} % (float32: {100 * quantized.top1:.2f} %), "
                f"the same gloss as float32 for {100 * quantized.agreed:.1f} %",
            )
        for name, (content, remark) in written.items():
            atomic_write_bytes(model / name, content)
            print(f"{model / name}  {len(content):,} bytes; {remark}")
