"""Refuses graphs with external weights before ONNX Runtime reads them.

The values of an ONNX tensor may be in a file, or at an address in this process's memory ("external data"). ONNX Runtime
reads them as far as its version and the working directory allow. `refuse_external_data` parses the protobuf message
without the package onnx, which servers do not have. It follows every occurrence of each field that may hold a tensor,
and refuses unknown fields.
"""

from spoter.errors import ModelFolderError

# For each message of onnx.proto (ONNX 1.23): the fields that lead to tensors, and the numbers of the other fields.
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
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_DEPTH = 100  # protobuf's own limit


def refuse_external_data(graph: bytes, place: str) -> None:
    """Raise `ModelFolderError` if a tensor of a graph has external data, or the graph cannot be parsed to its end.

    `graph` is a serialized ModelProto; `place` names it in errors.
    """
    position, open_messages = 0, [("ModelProto", len(graph))]
    while open_messages:
        message, end = open_messages[-1]
        if position == end:
            open_messages.pop()
            continue
        start, (nested, plain) = position, MESSAGE_FIELDS[message]
        tag, position = _read_varint(graph, position, end, place)
        number, wire = tag >> 3, tag & 7
        value = 0
        if wire in (_VARINT, _BYTES):
            value, position = _read_varint(graph, position, end, place)
        field_end = position + {_VARINT: 0, _BYTES: value, _FIXED64: 8, _FIXED32: 4}.get(wire, len(graph))
        external = number == _EXTERNAL_DATA or (number == _DATA_LOCATION and (wire, value) != (_VARINT, 0))
        if message == "TensorProto" and external:
            problem = "found a tensor with values outside the graph, expected all weights inside it"
            raise ModelFolderError(f"{place}, byte {start:,}: {problem}: write the graph with `spoter export`")
        is_nested = number in nested and wire == _BYTES
        if field_end > end or not (is_nested or number in plain) or len(open_messages) > _MAX_DEPTH:
            raise _damaged(place, start)
        if is_nested:
            open_messages.append((nested[number], field_end))
        else:
            position = field_end


def _read_varint(graph: bytes, position: int, end: int, place: str) -> tuple[int, int]:
    """Return a base-128 number and the position after it."""
    if position < end and graph[position] < 0x80:  # most numbers are one byte
        return graph[position], position + 1
    value = 0
    for i, byte in enumerate(graph[position : min(end, position + _MAX_VARINT_BYTES)]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, position + i + 1
    raise _damaged(place, position)


def _damaged(place: str, position: int) -> ModelFolderError:
    return ModelFolderError(
        f"{place}, byte {position:,}: found a damaged or unknown field, expected a graph written by `spoter export`"
    )
