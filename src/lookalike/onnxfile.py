"""What an ONNX file says of itself, read without onnx: whether all of its weights are in it.

A walk over the protocol buffer (https://protobuf.dev/programming-guides/encoding/) that enters only
messages which may hold a tensor, by the field numbers of onnx.proto.
"""

from __future__ import annotations

# Message -> field number -> message in that field.
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
VARINT_BYTES = 10


def has_external_data(content: bytes) -> bool:
    """Whether a tensor of an ONNX model lies in another file.

    Raises:
        ValueError: ``content`` is not a protocol buffer.
    """
    waiting = [("model", 0, len(content))]
    while waiting:
        message, at, end = waiting.pop()
        while at < end:
            key, at = _varint(content, at, end)
            field, kind = key >> 3, key & 7
            if not field:
                raise ValueError(f"byte {at - 1} begins no field of a protocol buffer")
            if kind == LENGTH:
                size, start = _varint(content, at, end)
                at = start + size
                if at <= end and field in MESSAGES[message]:
                    waiting.append((MESSAGES[message][field], start, at))
            elif kind == VARINT:
                value, at = _varint(content, at, end)
                if message == "tensor" and field == DATA_LOCATION and value:
                    return True
            elif kind in (EIGHT_BYTES, FOUR_BYTES):
                at += 8 if kind == EIGHT_BYTES else 4
            else:
                raise ValueError(f"the field at byte {at} is of unknown kind {kind}")
            if at > end:
                raise ValueError(f"a field ends at byte {at} of {end}")
            if message == "tensor" and field == EXTERNAL_DATA:
                return True
    return False


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where what follows begins."""
    value = 0
    for i in range(VARINT_BYTES):
        if at + i >= end:
            break
        value |= (content[at + i] & 0x7F) << 7 * i
        if content[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError(f"the number at byte {at} has no end")
