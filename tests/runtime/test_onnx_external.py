"""A graph whose weights lie in other files, or in memory, is refused before ONNX Runtime sees it."""

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
REFUSED = "values lie outside of the graph"


def external(location: str = "secret.bin") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def tensor_with(**fields) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], float_data=[1.0], **fields)


def only_named() -> TensorProto:
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


# Everywhere that a tensor may stand.
PLACES: dict[str, Callable[[], ModelProto]] = {
    "initializer": lambda: model(GraphProto(initializer=[tensor_with(), external()])),
    "memory": lambda: model(GraphProto(initializer=[external(IN_MEMORY)])),
    "location only": lambda: model(GraphProto(initializer=[tensor_with(data_location=TensorProto.EXTERNAL)])),
    "name only": lambda: model(GraphProto(initializer=[only_named()])),
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
def test_external_data_is_refused_wherever_it_is(place):
    graph = PLACES[place]().SerializeToString()
    with pytest.raises(ModelFolderError, match=f"here, byte .*{REFUSED}"):
        OnnxRuntime(graph, "here", 4, 2)


def merged(*models: ModelProto) -> bytes:
    return b"".join(each.SerializeToString() for each in models)


def length(content: bytes) -> bytes:
    return bytes([len(content)]) if len(content) < 128 else bytes([len(content) & 127 | 128, len(content) >> 7])


PLAIN = model(GraphProto(name="g", initializer=[tensor_with()])).SerializeToString()
TENSOR = tensor_with().SerializeToString()


def holding(tensor: bytes) -> bytes:
    """Return a model of one initializer."""
    graph = b"\x2a" + length(tensor) + tensor
    return b"\x3a" + length(graph) + graph


def nested(depth: int) -> bytes:
    """Return a model of graphs in attributes in nodes in graphs."""
    content = b""
    for _ in range(depth):
        for field in (b"\x32", b"\x2a", b"\x0a"):
            content = field + length(content) + content
    return b"\x3a" + length(content) + content


# What protobuf's readers take, or may take, for external data, or for less or more than is there.
ODD = {
    "a second graph, which is merged": (merged(model(), model(within(0))), REFUSED),
    "a first graph": (merged(model(within(0)), model()), REFUSED),
    "location set, then not": (holding(TENSOR + b"\x70\x01\x70\x00"), REFUSED),
    "location of more bytes": (holding(TENSOR + b"\x70\x81\x80\x00"), REFUSED),
    "tag of more bytes": (holding(TENSOR + b"\xf0\x80\x00\x01"), REFUSED),
    "location above an enum's": (holding(TENSOR + b"\x70\x81\x80\x80\x80\x10"), REFUSED),
    "location as bytes": (holding(TENSOR + b"\x72\x01\x01"), REFUSED),
    "external data as a number": (holding(TENSOR + b"\x68\x00"), REFUSED),
    "group": (PLAIN + b"\x0b\x0c", "damaged or unknown field"),
    "end of a group": (PLAIN + b"\x0c", "damaged or unknown field"),
    "wire type 6": (PLAIN + b"\x0e", "damaged or unknown field"),
    "field 0": (PLAIN + b"\x00\x00", "damaged or unknown field"),
    "field that ONNX has not": (PLAIN + b"\xf8\x3f\x00", "damaged or unknown field"),
    "graph as a number": (PLAIN + b"\x38\x00", "damaged or unknown field"),
    "endless number": (PLAIN + b"\x08" + b"\xff" * 11, "damaged or unknown field"),
    "longer than the file": (PLAIN + b"\x12\x05ab", "damaged or unknown field"),
    "longer than its message": (b"\x3a\x02\x2a\x04\x12\x05ab", "damaged or unknown field"),
    "cut in a number": (PLAIN + b"\x08", "damaged or unknown field"),
    "cut in 4 bytes": (holding(b"\x25\0\0"), "damaged or unknown field"),
    "deeper than protobuf reads": (nested(40), "damaged or unknown field"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_protobuf_is_refused(kind):
    content, words = ODD[kind]
    with pytest.raises(ModelFolderError, match=f"here, byte .*{words}"):
        refuse_external_data(content, "here")


@pytest.mark.parametrize(
    "content", [b"", PLAIN, holding(TENSOR), holding(TENSOR + b"\x70\x00"), *small_graphs()], ids=range(6)
)
def test_weights_inside_pass(content):
    refuse_external_data(content, "here")


def leads_to_tensors(message, seen: tuple[str, ...] = ()) -> bool:
    inner = [field.message_type for field in message.fields if field.message_type]
    return message.name == "TensorProto" or any(
        leads_to_tensors(each, (*seen, message.name)) for each in inner if each.name not in seen
    )


@pytest.mark.parametrize("name", MESSAGE_FIELDS)
def test_no_field_that_leads_to_tensors_is_passed_over(name):
    """By the installed ONNX's own description; a field that a later one adds is refused as unknown."""
    inner, plain = MESSAGE_FIELDS[name]
    for field in getattr(onnx, name).DESCRIPTOR.fields:
        if field.message_type and leads_to_tensors(field.message_type):
            assert inner.get(field.number, field.message_type.name) == field.message_type.name
            assert field.number not in plain


def tensors(message: Message) -> Iterator[TensorProto]:
    """Return all tensors of a message as protobuf's own reader finds them."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in [value] if isinstance(value, Message) else value:
                yield from tensors(inner)


def test_what_passes_has_no_external_data_for_protobufs_own_reader():
    """Mutated graphs with external data: bytes changed, put in, taken out and doubled."""
    rng, seeds, found = random.Random(1), [make().SerializeToString() for make in PLACES.values()], 0
    passed = 0
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
        passed += 1
        try:
            read = ModelProto.FromString(bytes(content))
        except DecodeError:
            continue
        found += 1
        assert not [t for t in tensors(read) if t.external_data or t.data_location != TensorProto.DEFAULT]
    assert passed > 100 and found > 50


@pytest.fixture
def secret(tmp_path, monkeypatch) -> bytes:
    """A graph that takes the head's bias from a file of the working folder, which is there."""
    graph = onnx.load_from_string(small_graphs()[0])
    [bias] = [tensor for tensor in graph.graph.initializer if tensor.name == "head.bias"]
    (tmp_path / "secret.bin").write_bytes(bias.raw_data)
    bias.ClearField("raw_data")
    bias.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "secret.bin"), ("offset", "0"), ("length", "8")):
        bias.external_data.add(key=key, value=value)
    monkeypatch.chdir(tmp_path)
    return graph.SerializeToString()


def test_a_model_folder_with_such_a_graph_is_refused(dgs11, tmp_path, secret):
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    graph = onnx.load_from_string((folder / GRAPH).read_bytes())
    graph.graph.initializer.append(external())
    (folder / GRAPH).write_bytes(graph.SerializeToString())
    with pytest.raises(ModelFolderError, match=rf"model\.onnx, byte .*{REFUSED}"):
        Recognizer.load(folder)


def test_onnx_runtime_itself_would_look_in_no_folder(secret, tmp_path, monkeypatch):
    """The second lock: with the first one open, the session finds no such file."""
    with pytest.raises(ModelFolderError, match=REFUSED):
        OnnxRuntime(secret, "here", SMALL["width"], SMALL["classes"])
    monkeypatch.setattr(onnx_runtime, "refuse_external_data", lambda graph, place: None)
    with pytest.raises(ModelFolderError, match="here: found what ONNX Runtime does not load"):
        OnnxRuntime(secret, "here", SMALL["width"], SMALL["classes"])
    folder = "session.model_external_initializers_file_folder_path"
    assert onnx_runtime._SESSION_CONFIG[folder] == os.devnull
    monkeypatch.setitem(onnx_runtime._SESSION_CONFIG, folder, str(tmp_path))
    OnnxRuntime(secret, "here", SMALL["width"], SMALL["classes"])  # neither lock


def test_bytes_that_look_like_another_format_are_read_as_onnx():
    """ONNX Runtime would guess its own format from bytes 4 to 8; nothing checks what that names."""
    graph = onnx.load_from_string(small_graphs()[0])
    graph.producer_name = "ORTM"
    content = graph.SerializeToString()
    assert content[4:8] == b"ORTM"
    runtime = OnnxRuntime(content, "here", SMALL["width"], SMALL["classes"])
    assert runtime.run([np.zeros((2, SMALL["width"]), np.float32)], with_embeddings=False)[0].shape == (1, 2)


def test_every_pin_of_onnx_runtime_refuses_paths_out_of_the_working_folder():
    """1.24.2 still follows `../`; 1.23 any path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    files = ("handler/onnx-requirements.txt", "docker/requirements.txt", "spoter/aws/functions/requirements.txt")
    lines = [*declared, *(line for name in files for line in (ROOT / name).read_text().splitlines())]
    wanted = [Requirement(line) for line in lines if line.startswith("onnxruntime")]
    assert len(wanted) == 4
    assert not [each for each in wanted for version in ("1.20.0", "1.23.2", "1.24.2") if version in each.specifier]
