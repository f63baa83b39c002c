"""Colour profiles made by hand."""

import struct


def profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A minimal ICC v2 profile (ICC.1:2001, 6.1): header, tag table, tags, D50 white."""
    white = struct.pack(">iii", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"t\0" + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + white, **tags}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02100000, kind, space, pcs)
    head = (head + bytes(12) + b"acsp" + bytes(28) + white).ljust(128, b"\0")
    return head + struct.pack(">I", len(tags)) + table + body


def grey_profile(curve: bytes) -> bytes:
    """Of a display of greys, with a tone curve."""
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})


def one_gamma(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def samples(values: list[int]) -> bytes:
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


def parametric(kind: int, *numbers: float) -> bytes:
    fixed = [round(number * 65536) for number in numbers]
    return b"para" + bytes(4) + struct.pack(f">HH{len(fixed)}i", kind, 0, *fixed)
