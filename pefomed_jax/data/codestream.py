"""The size that a compressed frame says it has (ISO 10918-1, 14495-1, 15444-1).

A decoder makes room for that one, whatever the file around it says.
"""

import struct

SIZED = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # start of frame: JPEG, JPEG-LS
BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
J2K = b"\xff\x4f\xff\x51"  # start of codestream, then SIZ


def size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels of JPEG, JPEG-LS and JPEG 2000; None of others."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:4] == J2K or data[4:8] == b"jP  ":
            x, y, left, top = struct.unpack_from(">4I", data, data.index(J2K) + 8)
            return x - left, y - top
    except (struct.error, ValueError, IndexError):
        pass  # cut short: the decoder says so
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in SIZED:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == 0xFF:
            at += 1
        else:
            at += 2 if marker in BARE else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
