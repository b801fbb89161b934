"""Quantization of a model's graph to 8-bit integers, and the loss of accuracy.

The quantization is static: the input scales of matrix products are computed from training clips, once. Dynamic
quantization would compute scales from each batch, and the prediction for a clip would depend on the other clips.
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
"""Top-1, in percentage points, that a quantized model may lose on clips left out of training."""

# Number of clips, evenly spaced in the data, for the scales: after some dozens of clips, the ranges hardly change.
_CALIBRATION_CLIPS = 200


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized model, and its accuracy and that of float32 on clips left out of training."""

    graph: bytes  # the content of model-int8.onnx
    calibrated: int  # number of clips for the scales
    evaluated: int  # number of clips left out of training
    top1: float  # of the float32 graph
    top1_int8: float
    agreed: float  # share of the evaluated clips with the same predicted gloss from both graphs


class QuantizationLossError(SpoterError):
    """The error for a quantized model that lost too much accuracy."""

    exit_code = 1


def select_clips(
    folder: Path, glosses: Sequence[str], data: DataSet, left_out: DataSet | None = None, skip_bad: bool = False
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Return the training clips of a model and clips left out of its training.

    Without `left_out`, the split.json in the model folder `folder` divides `data`, all clips of the training run. With
    `left_out`, clips of groups left out of training, `data` are the training clips. Clips of glosses other than
    `glosses`, those of the model, are dropped. `skip_bad` is as for `spoter.training.data.merge_presplit`.

    Raises `DataError` without a split.json and `left_out`, for a clip or group in both results, and for a result
    without a clip.
    """
    if left_out is not None:
        merged, held_out, _ = merge_presplit(data, left_out, skip_bad=skip_bad)
        train = [clip for clip in merged.clips if clip.group not in held_out]
        others = [clip for clip in merged.clips if clip.group in held_out]
    elif (record := find_split(folder)) is not None:
        clips = [clip for clip in data.clips if clip.gloss in glosses]
        subsets = {name: record.split.select(clips, name) for name in SUBSETS}
        check_split(clips, record.split, [name for name in SUBSETS if name == "train" or subsets[name]])
        train, others = subsets["train"], subsets["validation"] + subsets["test"]
    else:
        raise DataError(
            f"{folder}: found no {SPLIT} with the split of the training data; add --left-out DATA with labeled clips "
            "of groups that were left out of training"
        )
    train, others = ([clip for clip in clips if clip.gloss in glosses] for clips in (train, others))
    if not train or not others:
        raise DataError(
            f"{data.sources[0]}: found {len(train)} training clips and {len(others)} left-out clips of the model's "
            "glosses, expected at least one of each; --left-out adds a data set of left-out clips"
        )
    return train, others


def quantize_and_evaluate(
    folder: ModelFolder, graph: bytes, train: Sequence[LabelledClip], left_out: Sequence[LabelledClip]
) -> QuantizedModel:
    """Quantize a model's float32 `graph` with training clips, and evaluate it on clips left out of training.

    Shows progress on stderr. Raises `QuantizationLossError` if top-1 falls by more than `MAX_POINTS_LOST` percentage
    points, `DataError` if no clip can be used, and `SpoterError` if a required package is not installed.
    """
    require_torch("writing graphs", "onnx", "onnxruntime")
    config, width = folder.config, 2 * len(folder.layout)
    unquantized = Recognizer(folder, OnnxRuntime(graph, "the float32 graph", width, config.classes))
    features = _compute_features(unquantized, train)
    with progress_bar(shown=True, total=len(features) + 2 * len(left_out), desc="int8", unit="clip") as bar:
        int8_graph = quantize(graph, features, bar)
        quantized = Recognizer(folder, OnnxRuntime(int8_graph, INT8_GRAPH, width, config.classes))
        float32, int8 = (predict(recognizer, left_out, bar=bar) for recognizer in (unquantized, quantized))
    top1, top1_int8, agreed = float32.top(1), int8.top(1), float((float32.first == int8.first).mean())
    if 100 * (top1 - top1_int8) > MAX_POINTS_LOST:
        raise QuantizationLossError(
            f"{config.name}: found top-1 of {100 * top1_int8:.1f} % in int8 and {100 * top1:.1f} % in float32 on "
            f"{len(left_out)} clips left out of training, expected a loss of at most {MAX_POINTS_LOST} points; use "
            "runtime onnx, or calibrate with more clips or with clips that are like the training clips"
        )
    return QuantizedModel(int8_graph, len(features), len(left_out), top1, top1_int8, agreed)


def quantize(graph: bytes, features: Sequence[Float32Array], bar: tqdm[Any] | None = None) -> bytes:
    """Return a graph whose encoder layers multiply in 8-bit integers.

    The decoder (products of single rows), attention between frames, and norms stay in float32. Weights have one scale
    per output and use 7 of 8 bits: processors without VNNI add two products in 16 bits, where 8 bits overflow (ONNX
    Runtime, "Quantize ONNX models", on reduce_range), so their predictions would differ from the evaluated ones.

    `features` (T, 2K) of training clips run through the graph, with one update of `bar` per clip. The 8 bits cover the
    range of values that each product receives.
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
        float32, int8 = Path(scratch, "float32.onnx"), Path(scratch, "int8.onnx")
        float32.write_bytes(graph)
        quantize_static(
            float32,
            int8,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Gemm"],
            nodes_to_quantize=products,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return bytes(onnx.load(int8).SerializeToString(deterministic=True))


def _compute_features(recognizer: Recognizer, clips: Sequence[LabelledClip]) -> list[Float32Array]:
    """Return the input of the model for at most `_CALIBRATION_CLIPS` of `clips`."""
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), _CALIBRATION_CLIPS)).astype(int)
    features = []
    for clip in (clips[i].clip for i in chosen):
        with contextlib.suppress(InputError):  # a server would refuse this clip
            features.append(recognizer.compute_features(clip))
    if not features:
        raise DataError(f"found no clip that fits the model among {len(clips)} clips, expected at least one")
    return features


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide advice that the quantizer prints and logs with the root logger."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
