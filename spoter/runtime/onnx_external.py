"""Refuse graphs with weights outside of them, before ONNX Runtime reads them.

An ONNX tensor may name a file, or an address of this process's memory, for its values ("external data"). ONNX Runtime
follows such names as far as its version and the working folder allow. `refuse_external_data` parses the protobuf
message itself, because servers do without the package onnx. It follows every field that may hold a tensor, as often as
it occurs, and refuses unknown fields.
"""

from spoter.errors import ModelFolderError

# For each message of onnx.proto (ONNX 1.23) the fields that lead to tensors, and the numbers of the other fields.
MESSAGE_FIELDS: dict[str, tuple[dict[int, str], tuple[int, ...]]] = {
    "ModelProto": ({7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"}, (1, 2, 3, 4, 5, 6, 8, 14, 26)),
    "GraphProto": ({1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"}, (2, 10, 11, 12, 13, 14, 16)),
    "NodeProto": ({5: "AttributeProto"}, (1, 2, 3, 4, 6, 7, 8, 9, 10)),
    "AttributeProto": (
        {5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"}
        | dict.fromkeys((22, 23), "SparseTensorProto"),
        (1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21),
    ),
    "SparseTensorProto": ({1: "TensorProto", 2: "TensorProto"}, (3,)),
    "FunctionProto": ({7: "NodeProto", 11: "AttributeProto"}, (1, 4, 5, 6, 8, 9, 10, 12, 13, 14)),
    "TrainingInfoProto": ({1: "GraphProto", 2: "GraphProto"}, (3, 4)),
    "TensorProto": ({}, (*range(1, 13), 14, 16)),
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_DEPTH = 100  # protobuf reads no deeper


def refuse_external_data(graph: bytes, place: str) -> None:
    """Raise `ModelFolderError` where any tensor of a graph has external data, or the graph cannot be read to its end.

    `graph` is a serialized ModelProto; `place` names it in errors.
    """
    at, open_messages = 0, [("ModelProto", len(graph))]
    while open_messages:
        message, end = open_messages[-1]
        if at == end:
            open_messages.pop()
            continue
        start, (nested, plain) = at, MESSAGE_FIELDS[message]
        tag, at = _read_varint(graph, at, end, place)
        number, wire = tag >> 3, tag & 7
        value = 0
        if wire in (_VARINT, _BYTES):
            value, at = _read_varint(graph, at, end, place)
        field_end = at + {_VARINT: 0, _BYTES: value, _FIXED64: 8, _FIXED32: 4}.get(wire, len(graph))
        external = number == _EXTERNAL_DATA or (number == _DATA_LOCATION and (wire, value) != (_VARINT, 0))
        if message == "TensorProto" and external:
            problem = "found a tensor whose values lie outside of the graph, expected all weights inside"
            raise ModelFolderError(f"{place}, byte {start:,}: {problem}: `spoter export` writes such a graph")
        is_nested = number in nested and wire == _BYTES
        if field_end > end or not (is_nested or number in plain) or len(open_messages) > _MAX_DEPTH:
            raise _damaged(place, start)
        if is_nested:
            open_messages.append((nested[number], field_end))
        else:
            at = field_end


def _read_varint(graph: bytes, at: int, end: int, place: str) -> tuple[int, int]:
    """Return a number of base 128 and its end."""
    if at < end and graph[at] < 0x80:  # most are one byte
        return graph[at], at + 1
    value = 0
    for i, byte in enumerate(graph[at : min(end, at + _MAX_VARINT_BYTES)]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise _damaged(place, at)


def _damaged(place: str, at: int) -> ModelFolderError:
    return ModelFolderError(
        f"{place}, byte {at:,}: found a damaged or unknown field, expected an ONNX graph of `spoter export`"
    )
