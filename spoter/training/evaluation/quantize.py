"""A model's graph in 8-bit integers, and the accuracy that it loses.

Static quantisation: the input of each product gets its scale from training clips, once. Dynamic quantisation would take
scales from each batch, and a clip's prediction would depend on the other clips.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from spoter.errors import DataError, InputError, SpoterError
from spoter.landmarks.arrays import Float32Array
from spoter.model.folder import INT8_GRAPH, ModelFolder
from spoter.model.torch_dependency import require_torch
from spoter.progress import progress_bar
from spoter.runtime.onnx_graph import ENCODER_PREFIX
from spoter.runtime.onnx_runtime import FRAMES, LENGTHS, OnnxRuntime, import_onnxruntime
from spoter.serving.recognizer import Recognizer
from spoter.training.data import DataSet, LabelledClip, merge_presplit
from spoter.training.data.split import SUBSETS, check_split
from spoter.training.data.split_record import SPLIT, find_split
from spoter.training.evaluation.predictions import predict

MAX_POINTS_LOST = 0.5
"""Percentage points of top-1 on clips left out of training that a quantised model may lose."""

# Clips that scales are taken from, evenly spaced among all: ranges hardly move after some dozens.
_CALIBRATION_CLIPS = 200


@dataclass(frozen=True)
class QuantizedModel:
    """A quantised model, and its accuracy on clips left out of training next to that in float32."""

    graph: bytes  # the content of model-int8.onnx
    calibrated: int  # number of clips that the scales are taken from
    evaluated: int  # number of clips left out of training
    top1: float  # of the graph in float32
    top1_int8: float
    agreed: float  # share of the evaluated clips for which both graphs predict the same gloss


class QuantizationLossError(SpoterError):
    """A quantised model has lost too much accuracy."""

    exit_code = 1


def select_clips(
    folder: Path, glosses: Sequence[str], data: DataSet, left_out: DataSet | None = None, skip_bad: bool = False
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Return clips of the model's glosses: of the groups that it was trained on, and of those left out of training.

    `data` are all clips of the training, which the split.json in the model folder `folder` separates; or with
    `left_out`, clips of groups that were left out of training, those of its training side. Clips of glosses other than
    `glosses`, the model's, are dropped. `skip_bad` is as for `spoter.training.data.merge_presplit`.

    Raises `DataError` where there is neither a split.json nor `left_out`, where a clip or group is on both sides, and
    where a side has no clip of a gloss of the model.
    """
    if left_out is not None:
        merged, held_out, _ = merge_presplit(data, left_out, skip_bad=skip_bad)
        train = [clip for clip in merged.clips if clip.group not in held_out]
        others = [clip for clip in merged.clips if clip.group in held_out]
    elif (record := find_split(folder)) is not None:
        clips = [clip for clip in data.clips if clip.gloss in glosses]
        sides = {side: record.split.select(clips, side) for side in SUBSETS}
        check_split(clips, record.split, [side for side in SUBSETS if side == "train" or sides[side]])
        train, others = sides["train"], sides["validation"] + sides["test"]
    else:
        raise DataError(
            f"{folder}: found no {SPLIT}, which says what the model was not trained on; expected --left-out DATA, "
            "labelled clips of cameras or people that were left out of its training"
        )
    train, others = ([clip for clip in side if clip.gloss in glosses] for side in (train, others))
    if not train or not others:
        raise DataError(
            f"{data.sources[0]}: found {len(train)} clips of the model's glosses to calibrate on and {len(others)} "
            "left out of training to judge on, expected some of each; --left-out names a data set of the latter"
        )
    return train, others


def quantize_and_evaluate(
    folder: ModelFolder, graph: bytes, train: Sequence[LabelledClip], left_out: Sequence[LabelledClip]
) -> QuantizedModel:
    """Quantise a model's `graph` in float32 by training clips, and evaluate it on clips left out of training.

    Shows progress on stderr. Raises `QuantizationLossError` where top-1 falls by more than `MAX_POINTS_LOST` points,
    `DataError` where no clip can be used, and `SpoterError` where packages that this needs are not installed.
    """
    require_torch("writing graphs", "onnx", "onnxruntime")
    config, width = folder.config, 2 * len(folder.layout)
    plain = Recognizer(folder, OnnxRuntime(graph, "the graph in float32", width, config.classes))
    features = _compute_features(plain, train)
    with progress_bar(shown=True, total=len(features) + 2 * len(left_out), desc="int8", unit="clip") as bar:
        int8_graph = quantize(graph, features, bar)
        quantized = Recognizer(folder, OnnxRuntime(int8_graph, INT8_GRAPH, width, config.classes))
        float32, int8 = (predict(recognizer, left_out, bar=bar) for recognizer in (plain, quantized))
    top1, top1_int8, agreed = float32.top(1), int8.top(1), float((float32.first == int8.first).mean())
    if 100 * (top1 - top1_int8) > MAX_POINTS_LOST:
        raise QuantizationLossError(
            f"{config.name}: found top-1 of {100 * top1_int8:.1f} % in int8 and {100 * top1:.1f} % in float32 on "
            f"{len(left_out)} clips left out of training, expected at most {MAX_POINTS_LOST} points less: serve "
            "it with runtime onnx, or calibrate on more clips or clips like those it was trained on"
        )
    return QuantizedModel(int8_graph, len(features), len(left_out), top1, top1_int8, agreed)


def quantize(graph: bytes, features: Sequence[Float32Array], bar: tqdm[Any] | None = None) -> bytes:
    """Return a graph whose encoder layers multiply in 8-bit integers.

    The decoder, whose products are of single rows, attention between frames and norms stay in float32. Weights have a
    scale for each output, and 7 bits of 8: without VNNI processors add two products in 16 bits, where 8 overflow
    (ONNX Runtime, "Quantize ONNX models", on reduce_range), so that they would answer otherwise than where this was
    judged.

    `features` (T, 2K) of training clips, each an update of `bar`, go through the graph; the 8 bits are spread over the
    range of numbers that each product is then fed.
    """
    import onnx

    import_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    remaining = iter(features)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            if (clip := next(remaining, None)) is None:
                return None
            if bar is not None:
                bar.update()
            return {FRAMES: clip[None], LENGTHS: np.array([len(clip)])}

    nodes = onnx.load_from_string(graph).graph.node
    products = [node.name for node in nodes if node.op_type == "Gemm" and node.name.startswith(ENCODER_PREFIX)]
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch, _quiet():
        plain, small = Path(scratch, "plain.onnx"), Path(scratch, "small.onnx")
        plain.write_bytes(graph)
        quantize_static(
            plain,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Gemm"],
            nodes_to_quantize=products,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return bytes(onnx.load(small).SerializeToString(deterministic=True))


def _compute_features(recognizer: Recognizer, clips: Sequence[LabelledClip]) -> list[Float32Array]:
    """Return the model's input for some of `clips`."""
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), _CALIBRATION_CLIPS)).astype(int)
    features = []
    for clip in (clips[i].clip for i in chosen):
        with contextlib.suppress(InputError):  # a clip that a server refuses tells nothing
            features.append(recognizer.compute_features(clip))
    if not features:
        raise DataError(f"found no clip to calibrate on among {len(clips)} that the model can be fed")
    return features


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice, which it prints and logs by the root logger, from the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
