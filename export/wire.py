"""How many parts an ONNX file has, counted before any is built.

A message of two bytes in the file becomes an object of a hundred in memory, so a file of a few
hundred megabytes could take all of a machine's. Protocol buffers' wire format is simple enough to
count in: every field is a key, (number << 3 | type), and its value
(protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Fields of onnx.proto that hold a message worth looking into, by message.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute", 12: "value"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation",
              15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type",
                  22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "value": {2: "type"},
    "annotation": {},
    "type": {1: "type", 2: "shape", 4: "type", 5: "type", 8: "type", 9: "type"},
    "shape": {},
}  # fmt: skip


class TooManyPartsError(Exception):
    """More parts than allowed."""


def count_parts(content: bytes, most: int) -> int:
    """Return how many fields an ONNX model has in all its nodes, attributes, tensors ….

    Parameters
    ----------
    content : bytes
        A serialised ``ModelProto``; bytes that are none are somebody else's to refuse.
    most : int

    Raises
    ------
    TooManyPartsError
        There are more than ``most``.
    """
    view = memoryview(content)
    # Messages still to be looked into: what they are, where they begin and end.
    waiting = [("model", 0, len(view))]
    found = 0
    while waiting:
        kind, at, stop = waiting.pop()
        inside = _INSIDE[kind]
        while at < stop:
            key, at = _varint(view, at, stop)
            number, wire = key >> 3, key & 7
            if wire == _BYTES:
                length, at = _varint(view, at, stop)
                if number in inside:
                    waiting.append((inside[number], at, min(at + length, stop)))
                at += length
            elif wire == _VARINT:
                _, at = _varint(view, at, stop)
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            else:
                break  # a group or nonsense: no ONNX model has one
            found += 1
            if found > most:
                raise TooManyPartsError
    return found


def _varint(view: memoryview, at: int, stop: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and where it ends."""
    value = shift = 0
    while at < stop and shift < 64:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
