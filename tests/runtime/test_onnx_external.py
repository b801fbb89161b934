"""A graph with weights in other files or in memory is refused before ONNX Runtime reads it."""

from __future__ import annotations

import os
import random
import shutil
import tomllib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto
from packaging.requirements import Requirement

from spoter.errors import ModelFolderError
from spoter.model.folder import GRAPH
from spoter.runtime import onnx_runtime
from spoter.runtime.onnx_external import MESSAGE_FIELDS, refuse_external_data
from spoter.runtime.onnx_runtime import OnnxRuntime
from spoter.serving.recognizer import Recognizer
from stress.decoder_targets import SMALL, small_graphs
from tests import ROOT

IN_MEMORY = "*/_ORT_MEM_ADDR_/*"
EXTERNAL, DAMAGED = "outside", "damaged"


def external(location: str = "secret.bin") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def tensor_with(**fields) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], float_data=[1.0], **fields)


def tensor_with_location() -> TensorProto:
    tensor = tensor_with()
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def model(graph: GraphProto | None = None, **fields) -> ModelProto:
    return ModelProto(ir_version=8, graph=graph or GraphProto(name="g"), **fields)


def node(**attribute) -> onnx.NodeProto:
    return onnx.NodeProto(op_type="Constant", output=["x"], attribute=[AttributeProto(name="value", **attribute)])


def sparse(**tensors) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(dims=[2], **tensors)


def within(depth: int) -> GraphProto:
    graph = GraphProto(initializer=[external()])
    for _ in range(depth):
        graph = GraphProto(node=[node(g=graph)])
    return graph


# All places of a tensor in a model.
PLACES: dict[str, Callable[[], ModelProto]] = {
    "initializer": lambda: model(GraphProto(initializer=[tensor_with(), external()])),
    "memory": lambda: model(GraphProto(initializer=[external(IN_MEMORY)])),
    "location only": lambda: model(GraphProto(initializer=[tensor_with(data_location=TensorProto.EXTERNAL)])),
    "name only": lambda: model(GraphProto(initializer=[tensor_with_location()])),
    "sparse values": lambda: model(GraphProto(sparse_initializer=[sparse(values=external())])),
    "sparse indices": lambda: model(GraphProto(sparse_initializer=[sparse(indices=external())])),
    "attribute": lambda: model(GraphProto(node=[node(t=external())])),
    "attribute's tensors": lambda: model(GraphProto(node=[node(tensors=[tensor_with(), external()])])),
    "attribute's sparse": lambda: model(GraphProto(node=[node(sparse_tensor=sparse(values=external()))])),
    "attribute's sparse list": lambda: model(GraphProto(node=[node(sparse_tensors=[sparse(values=external())])])),
    "graph in a node": lambda: model(within(1)),
    "graph far inside": lambda: model(within(20)),
    "graphs in a node": lambda: model(GraphProto(node=[node(graphs=[GraphProto(), within(0)])])),
    "function": lambda: model(functions=[onnx.FunctionProto(name="f", node=[node(t=external())])]),
    "function's default": lambda: model(
        functions=[onnx.FunctionProto(name="f", attribute_proto=[AttributeProto(name="a", t=external())])]
    ),
    "training": lambda: model(training_info=[onnx.TrainingInfoProto(initialization=within(0))]),
    "training step": lambda: model(training_info=[onnx.TrainingInfoProto(algorithm=within(1))]),
}


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_in_all_places(place):
    graph = PLACES[place]().SerializeToString()
    with pytest.raises(ModelFolderError, match=f"here, byte .*{EXTERNAL}"):
        OnnxRuntime(graph, "here", 4, 2)


def merged(*models: ModelProto) -> bytes:
    return b"".join(each.SerializeToString() for each in models)


def length(content: bytes) -> bytes:
    return bytes([len(content)]) if len(content) < 128 else bytes([len(content) & 127 | 128, len(content) >> 7])


PLAIN = model(GraphProto(name="g", initializer=[tensor_with()])).SerializeToString()
TENSOR = tensor_with().SerializeToString()


def holding(tensor: bytes) -> bytes:
    """Return a model with one initializer."""
    graph = b"\x2a" + length(tensor) + tensor
    return b"\x3a" + length(graph) + graph


def nested(depth: int) -> bytes:
    """Return a model with `depth` nested graphs, each in an attribute of a node."""
    content = b""
    for _ in range(depth):
        for field in (b"\x32", b"\x2a", b"\x0a"):
            content = field + length(content) + content
    return b"\x3a" + length(content) + content


# Encodings that a protobuf reader may read as external data, or in another way than this parser.
UNUSUAL = {
    "external data in a second graph, which is merged": (merged(model(), model(within(0))), EXTERNAL),
    "external data in the first of two graphs": (merged(model(within(0)), model()), EXTERNAL),
    "location set, then unset": (holding(TENSOR + b"\x70\x01\x70\x00"), EXTERNAL),
    "location as a long varint": (holding(TENSOR + b"\x70\x81\x80\x00"), EXTERNAL),
    "tag as a long varint": (holding(TENSOR + b"\xf0\x80\x00\x01"), EXTERNAL),
    "location beyond the range of an enum": (holding(TENSOR + b"\x70\x81\x80\x80\x80\x10"), EXTERNAL),
    "location as bytes": (holding(TENSOR + b"\x72\x01\x01"), EXTERNAL),
    "external data as a number": (holding(TENSOR + b"\x68\x00"), EXTERNAL),
    "group": (PLAIN + b"\x0b\x0c", DAMAGED),
    "end of a group": (PLAIN + b"\x0c", DAMAGED),
    "wire type 6": (PLAIN + b"\x0e", DAMAGED),
    "field 0": (PLAIN + b"\x00\x00", DAMAGED),
    "field that ONNX does not have": (PLAIN + b"\xf8\x3f\x00", DAMAGED),
    "graph as a number": (PLAIN + b"\x38\x00", DAMAGED),
    "endless varint": (PLAIN + b"\x08" + b"\xff" * 11, DAMAGED),
    "longer than the file": (PLAIN + b"\x12\x05ab", DAMAGED),
    "longer than its message": (b"\x3a\x02\x2a\x04\x12\x05ab", DAMAGED),
    "truncated varint": (PLAIN + b"\x08", DAMAGED),
    "truncated 4 bytes": (holding(b"\x25\0\0"), DAMAGED),
    "deeper than protobuf allows": (nested(40), DAMAGED),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_protobuf_is_refused(kind):
    content, words = UNUSUAL[kind]
    with pytest.raises(ModelFolderError, match=f"here, byte .*{words}"):
        refuse_external_data(content, "here")


@pytest.mark.parametrize(
    "content", [b"", PLAIN, holding(TENSOR), holding(TENSOR + b"\x70\x00"), *small_graphs()], ids=range(6)
)
def test_graphs_with_weights_inside_are_accepted(content):
    refuse_external_data(content, "here")


def leads_to_tensors(message, ancestors: tuple[str, ...] = ()) -> bool:
    inner = [field.message_type for field in message.fields if field.message_type]
    return message.name == "TensorProto" or any(
        leads_to_tensors(each, (*ancestors, message.name)) for each in inner if each.name not in ancestors
    )


@pytest.mark.parametrize("name", MESSAGE_FIELDS)
def test_every_field_that_leads_to_tensors_is_followed(name):
    """By the descriptors of the installed ONNX; fields that a later ONNX adds are refused as unknown."""
    inner, plain = MESSAGE_FIELDS[name]
    for field in getattr(onnx, name).DESCRIPTOR.fields:
        if field.message_type and leads_to_tensors(field.message_type):
            assert inner.get(field.number, field.message_type.name) == field.message_type.name
            assert field.number not in plain


def tensors(message: Message) -> Iterator[TensorProto]:
    """Yield all tensors of a message that protobuf's reader finds."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in [value] if isinstance(value, Message) else value:
                yield from tensors(inner)


def test_accepted_graphs_have_no_external_data_for_protobufs_reader():
    """Graphs with external data are mutated: bytes are changed, inserted and deleted, and graphs appended."""
    rng, seeds = random.Random(1), [make().SerializeToString() for make in PLACES.values()]
    accepted = readable = 0
    for _ in range(20_000):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 3))):
            at, kind = rng.randrange(len(content) + 1), rng.randrange(4)
            if kind == 0 and at < len(content):
                content[at] = rng.choice((content[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
            elif kind == 1:
                content[at:at] = rng.choice((b"\x00", b"\x70\x00", b"\x70\x01", b"\x80", rng.randbytes(2)))
            elif kind == 2:
                del content[at : at + rng.randrange(1, 4)]
            else:
                content += rng.choice(seeds)
        try:
            refuse_external_data(bytes(content), "here")
        except ModelFolderError:
            continue
        accepted += 1
        try:
            read = ModelProto.FromString(bytes(content))
        except DecodeError:
            continue
        readable += 1
        assert not [t for t in tensors(read) if t.external_data or t.data_location != TensorProto.DEFAULT]
    assert accepted > 100 and readable > 50


@pytest.fixture
def secret(tmp_path, monkeypatch) -> bytes:
    """A graph that reads the head's bias from an existing file in the working directory."""
    graph = onnx.load_from_string(small_graphs()[0])
    [bias] = [tensor for tensor in graph.graph.initializer if tensor.name == "head.bias"]
    (tmp_path / "secret.bin").write_bytes(bias.raw_data)
    bias.ClearField("raw_data")
    bias.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "secret.bin"), ("offset", "0"), ("length", "8")):
        bias.external_data.add(key=key, value=value)
    monkeypatch.chdir(tmp_path)
    return graph.SerializeToString()


def test_a_model_folder_whose_graph_has_external_data_is_refused(dgs11, tmp_path, secret):
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    graph = onnx.load_from_string((folder / GRAPH).read_bytes())
    graph.graph.initializer.append(external())
    (folder / GRAPH).write_bytes(graph.SerializeToString())
    with pytest.raises(ModelFolderError, match=rf"model\.onnx, byte .*{EXTERNAL}"):
        Recognizer.load(folder)


def test_onnx_runtime_itself_does_not_find_external_data(secret, tmp_path, monkeypatch):
    """The second protection: without the check of the graph, the session does not find the file."""
    with pytest.raises(ModelFolderError, match=EXTERNAL):
        OnnxRuntime(secret, "here", SMALL["width"], SMALL["classes"])
    monkeypatch.setattr(onnx_runtime, "refuse_external_data", lambda graph, place: None)
    with pytest.raises(ModelFolderError, match="here: "):
        OnnxRuntime(secret, "here", SMALL["width"], SMALL["classes"])
    folder = "session.model_external_initializers_file_folder_path"
    assert onnx_runtime._SESSION_CONFIG[folder] == os.devnull
    monkeypatch.setitem(onnx_runtime._SESSION_CONFIG, folder, str(tmp_path))
    OnnxRuntime(secret, "here", SMALL["width"], SMALL["classes"])  # without both protections, it is loaded


def test_a_graph_that_resembles_another_format_is_read_as_onnx():
    """ONNX Runtime would guess its own format from bytes 4 to 8, and no check covers external data in that format."""
    graph = onnx.load_from_string(small_graphs()[0])
    graph.producer_name = "ORTM"
    content = graph.SerializeToString()
    assert content[4:8] == b"ORTM"
    runtime = OnnxRuntime(content, "here", SMALL["width"], SMALL["classes"])
    assert runtime.run([np.zeros((2, SMALL["width"]), np.float32)], with_embeddings=False)[0].shape == (1, 2)


def test_every_pinned_onnx_runtime_refuses_paths_outside_the_working_directory():
    """Version 1.24.2 still follows `../`, and 1.23 follows any path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    files = ("handler/onnx-requirements.txt", "docker/requirements.txt", "spoter/aws/functions/requirements.txt")
    lines = [*declared, *(line for name in files for line in (ROOT / name).read_text().splitlines())]
    pins = [Requirement(line) for line in lines if line.startswith("onnxruntime")]
    assert len(pins) == 4
    assert not [pin for pin in pins for version in ("1.20.0", "1.23.2", "1.24.2") if version in pin.specifier]
