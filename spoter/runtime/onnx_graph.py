"""SPOTER written down as an ONNX graph, node by node, arranged as in `spoter.runtime.folded_attention`, with padding and masks.

Frames are rows of matrices (B T, D) wherever it does not matter of which clip they are: such a product ONNX Runtime
computes with its bias and ReLU in one step. What does not depend on clips, as the decoder's first question, is a
constant that it computes once, when it loads the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from spoter.fewshot.prototypes import PARTS
from spoter.model.network import Spoter
from spoter.runtime.folded_attention import SelfAttention, SingleQueryAttention, epsilon_of_doubled
from spoter.runtime.onnx_runtime import EMBEDDINGS, FRAMES, LENGTHS, LOGITS

if TYPE_CHECKING:
    import onnx

# The latest of the operators, LayerNormalization, came with 17; Split got its number of parts with 18.
OPSET = 18
# The first ONNX release of opset 18, so that older runtimes take the file.
_IR_VERSION = 8
ENCODER_PREFIX = "encoder."
"""How the names of the encoder's nodes begin."""

# Added to scores of frames that are padding: far below any score, and finite, so that no sum is NaN.
_NEVER = -1e30


def build_graph(model: Spoter) -> onnx.ModelProto:
    """Return a model's graph: ``frames`` (B, T, 2K), ``lengths`` (B,) -> ``logits`` (B, C), ``embeddings`` (B, E)."""
    with torch.inference_mode():
        return _Graph(model).build()


class _Graph:
    """Nodes and constants in the making; names of what nodes give are handed on as strings."""

    def __init__(self, model: Spoter):
        self._model, self._width, self._heads = model, model.sizes.width, model.sizes.heads
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self._scope = ""

    def build(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        transformer, sizes = self._model.transformer, self._model.sizes
        self._read_shapes()
        x = self._frames()
        for number, layer in enumerate(transformer.encoder.layers):
            self._scope = f"{ENCODER_PREFIX}{number}."
            x = self._encoder_layer(x, layer)
            if number == 0:
                self._embeddings(x)
        self._scope = "decoder."
        rows = self._norm(x, transformer.encoder.norm, "memory")
        memory = self._node("Reshape", rows, self._clip_shape)  # (B, T, D)
        across = self._node("Transpose", memory, perm=[0, 2, 1])
        query = self._tensor("class_query", self._model.class_query)  # (1, D): the same for all clips
        for number, layer in enumerate(transformer.decoder.layers):
            self._scope = f"decoder.{number}."
            query = self._decoder_layer(query, memory, across, layer)
        self._scope = ""
        head = self._model.linear_class
        self._linear(self._norm(query, transformer.decoder.norm, "answer"), head.weight, head.bias, "head", LOGITS)

        def end(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self._nodes,
            "spoter",
            [
                end(FRAMES, TensorProto.FLOAT, "clips", "frames", sizes.width),
                end(LENGTHS, TensorProto.INT64, "clips"),
            ],
            [
                end(LOGITS, TensorProto.FLOAT, "clips", sizes.classes),
                end(EMBEDDINGS, TensorProto.FLOAT, "clips", (PARTS + 1) * sizes.width),
            ],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        return helper.make_model(
            graph, producer_name="spoter", ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )

    def _node(self, kind: str, *inputs: str, gives: str = "", count: int = 1, **attributes) -> str:
        """Add a node; return the name of what it gives, or of each where it gives several."""
        from onnx import helper

        name = f"{self._scope}{kind}_{len(self._nodes)}"
        outputs = [gives or name] if count == 1 else [f"{name}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs[0] if count == 1 else outputs

    def _constant(self, name: str, value: np.ndarray) -> str:
        self._constants[self._scope + name] = value
        return self._scope + name

    def _tensor(self, name: str, tensor: Tensor) -> str:
        return self._constant(name, np.ascontiguousarray(tensor.detach().cpu().numpy()))

    def _numbers(self, *values: int) -> str:
        """Return the name of a constant vector of int64."""
        self._constants[name := "numbers" + "".join(f"_{value}" for value in values)] = np.array(values, np.int64)
        return name

    def _linear(self, x: str, weight: Tensor, bias: Tensor, name: str, gives: str = "") -> str:
        parts = self._tensor(f"{name}.weight", weight), self._tensor(f"{name}.bias", bias)
        return self._node("Gemm", x, *parts, gives=gives, transB=1)

    def _norm(self, x: str, norm: nn.LayerNorm, name: str, epsilon: float | None = None) -> str:
        parts = self._tensor(f"{name}.weight", norm.weight), self._tensor(f"{name}.bias", norm.bias)
        return self._node("LayerNormalization", x, *parts, axis=-1, epsilon=norm.eps if epsilon is None else epsilon)

    def _feedforward(self, x: str, layer: nn.Module) -> str:
        hidden = self._node("Relu", self._linear(x, layer.linear1.weight, layer.linear1.bias, "linear1"))
        return self._linear(hidden, layer.linear2.weight, layer.linear2.bias, "linear2")

    def _read_shapes(self) -> None:
        """Name what depends on the batch alone: numbers of clips and frames, and which frames are padding."""
        shape = self._node("Shape", FRAMES)
        clips, self._count = (self._node("Slice", shape, self._numbers(i), self._numbers(i + 1)) for i in (0, 1))
        by_head = self._numbers(self._heads, self._width // self._heads)
        self._head_shape = self._node("Concat", clips, self._count, by_head, axis=0)
        self._clip_shape = self._node("Concat", clips, self._count, self._numbers(self._width), axis=0)
        count = self._node("Squeeze", self._count)
        zero, one = (self._constant(name, np.array(value)) for name, value in (("zero", 0), ("one", 1)))
        self._frame = self._node("Range", zero, count, one)  # (T,)
        self._length = self._node("Unsqueeze", LENGTHS, self._numbers(1))  # (B, 1)
        self._there = self._node("Less", self._frame, self._length)  # (B, T)
        plain, never = (self._constant(name, np.float32(value)) for name, value in (("plain", 0), ("never", _NEVER)))
        padding = self._node("Where", self._there, plain, never)
        self._padding = self._node("Unsqueeze", padding, self._numbers(1))  # (B, 1, T)
        self._padding_by_head = self._node("Unsqueeze", padding, self._numbers(1, 2))  # (B, 1, 1, T)

    def _frames(self) -> str:
        """Return frames with their positions, (B T, D)."""
        positions = self._tensor("positions", self._model.pos[0])
        if self._model.positions == "per-frame":
            table = self._tensor("positions", self._model.pos[0] + self._model.row_embed)
            positions = self._node("Slice", table, self._numbers(0), self._count, self._numbers(0))
        return self._node("Reshape", self._node("Add", FRAMES, positions), self._numbers(-1, self._width))

    def _encoder_layer(self, x: str, layer: nn.Module) -> str:
        weights = SelfAttention.of(layer.self_attn)
        bias = torch.cat([weights.query_bias, torch.zeros(2 * self._width)])
        inward = self._linear(x, weights.inward, bias, "in")  # (B T, 3D)
        q, k, v = (
            self._node("Transpose", self._node("Reshape", part, self._head_shape), perm=perm)
            for part, perm in zip(
                self._node("Split", inward, count=3, axis=1, num_outputs=3),
                ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),  # keys across, as their product wants them
                strict=True,
            )
        )
        scores = self._node("Add", self._node("MatMul", q, k), self._padding_by_head)  # (B, heads, T, T)
        mixed = self._node("MatMul", self._node("Softmax", scores, axis=-1), v)
        mixed = self._node("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self._node("Reshape", mixed, self._numbers(-1, self._width))
        seen = self._linear(mixed, weights.out, weights.out_bias, "out")
        x = self._norm(self._node("Add", x, seen), layer.norm1, "norm1")
        return self._norm(self._node("Add", x, self._feedforward(x, layer)), layer.norm2, "norm2")

    def _decoder_layer(self, query: str, memory: str, across: str, layer: nn.Module) -> str:
        weights = SingleQueryAttention.of(layer.multihead_attn)
        by_head = self._numbers(-1, self._heads, self._width // self._heads)
        query = self._norm(query, layer.norm1, "norm1", epsilon_of_doubled(layer.norm1))  # (B, D), or 1 for all
        asked = self._node("Reshape", self._linear(query, weights.query, weights.query_bias, "query"), by_head)
        asked = self._swapped(asked, self._tensor("keys", weights.keys))  # (B, heads, D)
        scores = self._node("Add", self._node("MatMul", asked, across), self._padding)
        seen = self._node("MatMul", self._node("Softmax", scores, axis=-1), memory)
        mixed = self._swapped(seen, self._tensor("values", weights.values))
        mixed = self._node("Reshape", mixed, self._numbers(-1, self._width))
        seen = self._linear(mixed, weights.out, weights.out_bias, "out")
        query = self._norm(self._node("Add", query, seen), layer.norm2, "norm2")
        return self._norm(self._node("Add", query, self._feedforward(query, layer)), layer.norm3, "norm3")

    def _swapped(self, x: str, weights: str) -> str:
        """Multiply each head of x (B, heads, ·) with weights of its own (heads, ·, ·)."""
        by_head = self._node("Transpose", x, perm=[1, 0, 2])
        return self._node("Transpose", self._node("MatMul", by_head, weights), perm=[1, 0, 2])

    def _embeddings(self, rows: str) -> None:
        """Pool the frames (B T, D) after the first layer as `spoter.model.network.embed` does, all clips padded."""
        seen = self._node("Reshape", rows, self._clip_shape)  # (B, T, D)
        parts = self._constant("parts", np.arange(PARTS + 1))
        edges = self._node("Div", self._node("Mul", self._length, parts), self._numbers(PARTS))  # (B, PARTS + 1)
        start, next_start = (
            self._node("Slice", edges, self._numbers(i), self._numbers(PARTS + i), self._numbers(1)) for i in (0, 1)
        )
        end = self._node("Max", next_start, self._node("Add", start, self._numbers(1)))
        start, end = (self._node("Unsqueeze", edge, self._numbers(2)) for edge in (start, end))  # (B, PARTS, 1)
        begun, over = (self._node("Less", self._frame, edge) for edge in (start, end))
        inside = self._node("And", over, self._node("Not", begun))  # (B, PARTS, T)
        means = self._node("MatMul", self._shares(inside), seen)  # (B, PARTS, D)
        whole = self._shares(self._node("Unsqueeze", self._there, self._numbers(1)))  # (B, 1, T)
        apart = self._node("Sub", seen, self._node("MatMul", whole, seen))
        spread = self._node("Sqrt", self._node("MatMul", whole, self._node("Mul", apart, apart)))  # (B, 1, D)
        both = self._node("Concat", means, spread, axis=1)
        self._node("Reshape", both, self._numbers(-1, (PARTS + 1) * self._width), gives=EMBEDDINGS)

    def _shares(self, inside: str) -> str:
        """Return weights (B, ·, T) that make means of the frames that are inside."""
        import onnx

        counted = self._node("Cast", inside, to=onnx.TensorProto.FLOAT)
        return self._node("Div", counted, self._node("ReduceSum", counted, self._numbers(2), keepdims=1))
