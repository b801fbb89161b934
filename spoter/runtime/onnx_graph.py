"""SPOTER as an ONNX graph, arranged as in `spoter.runtime.folded_attention`, with padding and masks.

Steps that treat each frame separately use matrices (B T, D) with one row per frame: ONNX Runtime computes such a
product with its bias and ReLU in one step. Values that do not depend on clips, such as the decoder's first query,
become constants, which ONNX Runtime computes once, when it loads the graph.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from spoter.fewshot.prototypes import TIME_PARTS, embedding_size
from spoter.model.network import DecoderLayer, EncoderLayer, Spoter
from spoter.runtime.folded_attention import SelfAttention, SingleQueryAttention, epsilon_of_doubled
from spoter.runtime.onnx_runtime import EMBEDDINGS, FRAMES, LENGTHS, LOGITS

# LayerNormalization needs opset 17, and Split with a number of parts needs opset 18.
OPSET = 18
# The version of the first ONNX release with opset 18, so that older runtimes accept the file.
_IR_VERSION = 8
ENCODER_PREFIX = "encoder."
"""The prefix of the encoder's node names."""

# Added to the scores of padding: far below any score, but finite, so that no sum is NaN.
_PADDING_SCORE = -1e30


def build_graph(model: Spoter) -> onnx.ModelProto:
    """Return a model's graph: ``frames`` (B, T, 2K), ``lengths`` (B,) -> ``logits`` (B, C), ``embeddings`` (B, E)."""
    with torch.inference_mode():
        return _GraphBuilder(model).build()


class _Linear(NamedTuple):
    weight: Tensor
    bias: Tensor


class _GraphBuilder:
    """The nodes and constants of a graph; methods take and return names of node outputs."""

    def __init__(self, model: Spoter):
        self._model, self._width, self._heads = model, model.sizes.width, model.sizes.heads
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._scope = ""

    def build(self) -> onnx.ModelProto:
        transformer, sizes = self._model.transformer, self._model.sizes
        self._read_shapes()
        x = self._frames()
        for number, encoder_layer in enumerate(transformer.encoder):
            self._scope = f"{ENCODER_PREFIX}{number}."
            x = self._encoder_layer(x, encoder_layer)
            if number == 0:
                self._embeddings(x)
        self._scope = "decoder."
        rows = self._norm(x, transformer.encoder.norm, "memory")
        memory = self._node("Reshape", rows, self._clip_shape)  # (B, T, D)
        memory_transposed = self._node("Transpose", memory, perm=[0, 2, 1])
        query = self._tensor("class_query", self._model.class_query)  # (1, D): shared by all clips
        for number, decoder_layer in enumerate(transformer.decoder):
            self._scope = f"decoder.{number}."
            query = self._decoder_layer(query, memory, memory_transposed, decoder_layer)
        self._scope = ""
        head = self._model.linear_class
        self._linear(self._norm(query, transformer.decoder.norm, "answer"), head, "head", LOGITS)

        info, float32 = helper.make_tensor_value_info, TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "spoter",
            [info(FRAMES, float32, ("clips", "frames", sizes.width)), info(LENGTHS, TensorProto.INT64, ("clips",))],
            [
                info(LOGITS, float32, ("clips", sizes.classes)),
                info(EMBEDDINGS, float32, ("clips", embedding_size(sizes.width))),
            ],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        return helper.make_model(
            graph, producer_name="spoter", ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )

    def _node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        [name] = self._add_node(kind, inputs, [output], attributes)
        return name

    def _add_node(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, Any]) -> list[str]:
        """Add a node; return the names of its `outputs`; an empty name is replaced by a generated name."""
        name = f"{self._scope}{kind}_{len(self._nodes)}"
        generated = [name] if len(outputs) == 1 else [f"{name}_{i}" for i in range(len(outputs))]
        outputs = [output or default for output, default in zip(outputs, generated, strict=True)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs

    def _constant(self, name: str, value: npt.ArrayLike) -> str:
        self._constants[self._scope + name] = np.asarray(value)
        return self._scope + name

    def _tensor(self, name: str, tensor: Tensor) -> str:
        return self._constant(name, np.ascontiguousarray(tensor.detach().cpu().numpy()))

    def _numbers(self, *values: int) -> str:
        """Add a constant vector of int64; return its name."""
        self._constants[name := "numbers" + "".join(f"_{value}" for value in values)] = np.array(values, np.int64)
        return name

    def _linear(self, x: str, linear: _Linear | nn.Linear, name: str, output: str = "") -> str:
        parts = self._tensor(f"{name}.weight", linear.weight), self._tensor(f"{name}.bias", linear.bias)
        return self._node("Gemm", x, *parts, output=output, transB=1)

    def _norm(self, x: str, norm: nn.LayerNorm, name: str, epsilon: float | None = None) -> str:
        parts = self._tensor(f"{name}.weight", norm.weight), self._tensor(f"{name}.bias", norm.bias)
        return self._node("LayerNormalization", x, *parts, axis=-1, epsilon=norm.eps if epsilon is None else epsilon)

    def _feedforward(self, x: str, layer: EncoderLayer | DecoderLayer) -> str:
        hidden = self._node("Relu", self._linear(x, layer.linear1, "linear1"))
        return self._linear(hidden, layer.linear2, "linear2")

    def _read_shapes(self) -> None:
        """Add nodes for the shape of the batch: the numbers of clips and frames, and the mask of padding."""
        shape = self._node("Shape", FRAMES)
        clips, self._count = (self._node("Slice", shape, self._numbers(i), self._numbers(i + 1)) for i in (0, 1))
        by_head = self._numbers(self._heads, self._width // self._heads)
        self._head_shape = self._node("Concat", clips, self._count, by_head, axis=0)
        self._clip_shape = self._node("Concat", clips, self._count, self._numbers(self._width), axis=0)
        count = self._node("Squeeze", self._count)
        zero, one = self._constant("zero", 0), self._constant("one", 1)
        self._frame = self._node("Range", zero, count, one)  # (T,)
        self._length = self._node("Unsqueeze", LENGTHS, self._numbers(1))  # (B, 1)
        self._in_clip = self._node("Less", self._frame, self._length)  # (B, T)
        plain, never = self._constant("plain", np.float32(0)), self._constant("never", np.float32(_PADDING_SCORE))
        padding = self._node("Where", self._in_clip, plain, never)
        self._padding = self._node("Unsqueeze", padding, self._numbers(1))  # (B, 1, T)
        self._padding_by_head = self._node("Unsqueeze", padding, self._numbers(1, 2))  # (B, 1, 1, T)

    def _frames(self) -> str:
        """Return the frames plus their positions, (B T, D)."""
        positions = self._tensor("positions", self._model.pos[0])
        if self._model.positions == "per-frame":
            table = self._tensor("positions", self._model.pos[0] + self._model.row_embed)
            positions = self._node("Slice", table, self._numbers(0), self._count, self._numbers(0))
        return self._node("Reshape", self._node("Add", FRAMES, positions), self._numbers(-1, self._width))

    def _encoder_layer(self, x: str, layer: EncoderLayer) -> str:
        weights = SelfAttention.fold(layer.self_attn)
        bias = torch.cat([weights.query_bias, torch.zeros(2 * self._width)])
        inward = self._linear(x, _Linear(weights.inward, bias), "in")  # (B T, 3D)
        q, k, v = (
            self._node("Transpose", self._node("Reshape", part, self._head_shape), perm=perm)
            for part, perm in zip(
                self._add_node("Split", [inward], ["", "", ""], {"axis": 1, "num_outputs": 3}),
                ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),  # keys are transposed for their product
                strict=True,
            )
        )
        scores = self._node("Add", self._node("MatMul", q, k), self._padding_by_head)  # (B, heads, T, T)
        attended = self._node("MatMul", self._node("Softmax", scores, axis=-1), v)
        attended = self._node("Transpose", attended, perm=[0, 2, 1, 3])
        attended = self._node("Reshape", attended, self._numbers(-1, self._width))
        values = self._linear(attended, _Linear(weights.out, weights.out_bias), "out")
        x = self._norm(self._node("Add", x, values), layer.norm1, "norm1")
        return self._norm(self._node("Add", x, self._feedforward(x, layer)), layer.norm2, "norm2")

    def _decoder_layer(self, query: str, memory: str, memory_transposed: str, layer: DecoderLayer) -> str:
        weights = SingleQueryAttention.fold(layer.multihead_attn)
        by_head = self._numbers(-1, self._heads, self._width // self._heads)
        query = self._norm(query, layer.norm1, "norm1", epsilon_of_doubled(layer.norm1))  # (B, D), or (1, D) for all
        projected = self._linear(query, _Linear(weights.query, weights.query_bias), "query")
        projected = self._node("Reshape", projected, by_head)
        projected = self._multiply_by_head(projected, self._tensor("keys", weights.keys))  # (B, heads, D)
        scores = self._node("Add", self._node("MatMul", projected, memory_transposed), self._padding)
        attended = self._node("MatMul", self._node("Softmax", scores, axis=-1), memory)
        values = self._multiply_by_head(attended, self._tensor("values", weights.values))
        values = self._node("Reshape", values, self._numbers(-1, self._width))
        values = self._linear(values, _Linear(weights.out, weights.out_bias), "out")
        query = self._norm(self._node("Add", query, values), layer.norm2, "norm2")
        return self._norm(self._node("Add", query, self._feedforward(query, layer)), layer.norm3, "norm3")

    def _multiply_by_head(self, x: str, weights: str) -> str:
        """Multiply each head of x (B, heads, ·) by its weights (heads, ·, ·)."""
        by_head = self._node("Transpose", x, perm=[1, 0, 2])
        return self._node("Transpose", self._node("MatMul", by_head, weights), perm=[1, 0, 2])

    def _embeddings(self, rows: str) -> None:
        """Pool the output of the first layer (B T, D) as `spoter.model.network.embed` does for padded clips."""
        frames = self._node("Reshape", rows, self._clip_shape)  # (B, T, D)
        parts = self._constant("parts", np.arange(TIME_PARTS + 1))
        # (B, TIME_PARTS + 1)
        edges = self._node("Div", self._node("Mul", self._length, parts), self._numbers(TIME_PARTS))
        start, next_start = (
            self._node("Slice", edges, self._numbers(i), self._numbers(TIME_PARTS + i), self._numbers(1))
            for i in (0, 1)
        )
        end = self._node("Max", next_start, self._node("Add", start, self._numbers(1)))
        start, end = (self._node("Unsqueeze", edge, self._numbers(2)) for edge in (start, end))  # (B, TIME_PARTS, 1)
        before_start, before_end = (self._node("Less", self._frame, edge) for edge in (start, end))
        in_part = self._node("And", before_end, self._node("Not", before_start))  # (B, TIME_PARTS, T)
        means = self._node("MatMul", self._mean_weights(in_part), frames)  # (B, TIME_PARTS, D)
        weights = self._mean_weights(self._node("Unsqueeze", self._in_clip, self._numbers(1)))  # (B, 1, T)
        centred = self._node("Sub", frames, self._node("MatMul", weights, frames))
        variance = self._node("MatMul", weights, self._node("Mul", centred, centred))  # (B, 1, D)
        pooled = self._node("Concat", means, self._node("Sqrt", variance), axis=1)
        self._node("Reshape", pooled, self._numbers(-1, embedding_size(self._width)), output=EMBEDDINGS)

    def _mean_weights(self, selected: str) -> str:
        """Return weights (B, ·, T) whose product with frames is the mean of the selected frames."""
        ones = self._node("Cast", selected, to=TensorProto.FLOAT)
        return self._node("Div", ones, self._node("ReduceSum", ones, self._numbers(2), keepdims=1))
