"""Pictures that mean harm, or were harmed: one seeded generator, endless.

Each is (name, bytes); the name ends as that of any format, mostly a wrong one. Some are legitimate
pictures in unusual dress (CMYK, 16 bits, a turn in EXIF): a service must enlarge them or say by
name why it does not.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import tifffile
from PIL import Image

from tudsr.images.formats import readable

_FORMATS = readable()
_SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".avif", ".heic")
Maker = Callable[[np.random.Generator], bytes]


def hostile_pictures(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """``count`` pictures; the k-th depends on seed and k alone, and every kind comes in turn."""
    for k in range(count):
        name, make = _MAKERS[k % len(_MAKERS)]
        suffix = _SUFFIXES[k // len(_MAKERS) % len(_SUFFIXES)]
        yield f"{name}-{k}{suffix}", make(np.random.default_rng([seed, k]))


def _plain(rng: np.random.Generator, fmt: str | None = None, **how: object) -> bytes:
    side = rng.integers(8, 48, 2)
    pixels = rng.integers(0, 256, (*side, 3), dtype=np.uint8)
    return _saved(Image.fromarray(pixels), fmt or str(rng.choice(_FORMATS)), **how)


def _saved(image: Image.Image, fmt: str, **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **how)
    return stream.getvalue()


def _truncated(rng: np.random.Generator) -> bytes:
    data = _plain(rng)
    return data[: rng.integers(0, len(data))]


def _flipped(rng: np.random.Generator) -> bytes:
    data = bytearray(_plain(rng))
    for at in rng.integers(0, len(data), rng.integers(1, 12)):
        data[at] = rng.integers(0, 256)
    return bytes(data)


def _spliced(rng: np.random.Generator) -> bytes:
    first, second = _plain(rng), _plain(rng)
    return first[: rng.integers(1, len(first))] + second[rng.integers(0, len(second)) :]


def _noise(rng: np.random.Generator) -> bytes:
    start = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"II*\0", b"GIF89a", b"BM", b"")
    return start[rng.integers(len(start))] + rng.bytes(int(rng.integers(0, 4000)))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, body: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _bomb(rng: np.random.Generator) -> bytes:
    """Hundreds of megabytes of zeros in a few kilobytes."""
    side = int(rng.integers(6000, 30000))
    return _png(side, side, zlib.compress(bytes(8_000_000), 9))


def _bomb_within_limits(rng: np.random.Generator) -> bytes:
    """A header that is let in, and data for a hundred times as many pixels."""
    return _png(64, 64, zlib.compress(bytes(20_000_000 + int(rng.integers(1000))), 9))


def _text_bomb(rng: np.random.Generator) -> bytes:
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000 + int(rng.integers(9))), 9))
    whole = _plain(rng, "PNG")
    return whole[:33] + text + whole[33:]


def _profile_bomb(rng: np.random.Generator) -> bytes:
    body = b"icc\0\0" + zlib.compress(bytes(50_000_000 + int(rng.integers(9))), 9)
    whole = _plain(rng, "PNG")
    return whole[:33] + _chunk(b"iCCP", body) + whole[33:]


def _no_pixels(rng: np.random.Generator) -> bytes:
    width, height = (int(n) for n in rng.choice([0, 1, 7, 64], 2))
    return _png(width if height else 0, 0 if width else height, zlib.compress(b""))


def _huge_header(rng: np.random.Generator) -> bytes:
    width, height = (65500, 65500) if rng.random() < 0.5 else (2**31 - 1, int(rng.integers(1, 9)))
    if rng.random() < 0.5:
        return _png(width, height, zlib.compress(bytes(100)))
    data = bytearray(_plain(rng, "JPEG"))
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def _endless_scans(rng: np.random.Generator) -> bytes:
    """A few kilobytes that have the whole picture gone over thousands of times."""
    whole = _plain(rng, "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * int(rng.integers(1000, 5000)) + whole[-2:]


def _cmyk(rng: np.random.Generator) -> bytes:
    pixels = rng.integers(0, 256, (24, 24, 4), dtype=np.uint8)
    return _saved(Image.fromarray(pixels, "CMYK"), str(rng.choice(["JPEG", "TIFF"])))


def _deep(rng: np.random.Generator) -> bytes:
    rows = b"".join(b"\0" + rng.bytes(16 * 6) for _ in range(16))
    return _png(16, 16, zlib.compress(rows), depth=16)


def _deep_tiff(rng: np.random.Generator) -> bytes:
    channels = int(rng.integers(1, 5))
    samples = rng.integers(0, 65536, (16, 24, channels)).astype(np.uint16)
    stream = io.BytesIO()
    how: dict[str, object] = {
        "photometric": "rgb" if channels > 2 else "minisblack",
        "byteorder": str(rng.choice(["<", ">"])),
        "compression": [None, "zlib", "lzma"][rng.integers(3)],
    }
    if channels % 2 == 0:
        how["extrasamples"] = [str(rng.choice(["unassalpha", "assocalpha"]))]
    tifffile.imwrite(stream, samples if channels > 1 else samples[:, :, 0], **how)
    return _harmed(stream.getvalue(), rng)


def _new(rng: np.random.Generator) -> bytes:
    """AVIF or HEIF, whole or harmed, with or without transparency."""
    formats = [fmt for fmt in _FORMATS if fmt in ("AVIF", "HEIF")]
    if not formats:
        return _plain(rng)
    pixels = rng.integers(0, 256, (*rng.integers(8, 64, 2), rng.integers(3, 5)), dtype=np.uint8)
    return _harmed(_saved(Image.fromarray(pixels), str(rng.choice(formats))), rng)


def _harmed(data: bytes, rng: np.random.Generator) -> bytes:
    """As it is, cut off or with bytes changed, each as likely."""
    harm = rng.integers(3)
    if harm == 1:
        return data[: rng.integers(0, len(data))]
    changed = bytearray(data)
    for at in rng.integers(0, len(data), 6 if harm == 2 else 0):
        changed[at] = rng.integers(0, 256)
    return bytes(changed)


def _palette(rng: np.random.Generator) -> bytes:
    image = Image.fromarray(rng.integers(0, 9, (20, 20), dtype=np.uint8), "P")
    image.putpalette(rng.bytes(int(rng.integers(1, 256)) * 3))
    return _saved(image, str(rng.choice(["PNG", "GIF", "BMP"])), **(
        {"transparency": 3} if rng.random() < 0.5 else {}))  # fmt: skip


def _animated(rng: np.random.Generator) -> bytes:
    frames = [
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        for _ in range(rng.integers(2, 9))
    ]
    fmt = str(rng.choice(["GIF", "WEBP", "PNG", "TIFF"]))
    return _saved(frames[0], fmt, save_all=True, append_images=frames[1:])


def _endless_gif(rng: np.random.Generator) -> bytes:
    """Tens of thousands of frames of one pixel."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes(6)
    return head + frame * int(rng.integers(20_000, 60_000)) + b";"


def _looping_tiff(rng: np.random.Generator) -> bytes:
    """A directory whose successor is itself."""
    data = bytearray(_plain(rng, "TIFF"))
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * entries, at)
    return bytes(data)


def _turned(rng: np.random.Generator) -> bytes:
    exif = Image.Exif()
    exif[274] = int(rng.integers(0, 12))
    return _plain(rng, str(rng.choice(["JPEG", "PNG", "WEBP", "TIFF"])), exif=exif)


def _bad_exif(rng: np.random.Generator) -> bytes:
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + rng.bytes(int(rng.integers(0, 300)))
    return _plain(rng, str(rng.choice(["JPEG", "WEBP"])), exif=block)


def _bad_profile(rng: np.random.Generator) -> bytes:
    return _plain(rng, "PNG", icc_profile=rng.bytes(int(rng.integers(0, 4000))))


def _polyglot(rng: np.random.Generator) -> bytes:
    others = (
        b"<script>alert(1)</script>",
        b"%PDF-1.7\n",
        b"PK\x03\x04",
        b"\x80\x04N.",
        b"#!/bin/sh\n",
    )
    other = others[rng.integers(len(others))]
    data = _plain(rng)
    return other + data if rng.random() < 0.5 else data + other


def _other_kinds(rng: np.random.Generator) -> bytes:
    kinds = (
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n",
        b"http://127.0.0.1/secret.png",
        b"file:///etc/passwd",
        b"P6 99999 99999 255\n",
        b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        b"\0\0\0\x1cftypavif",
    )
    return kinds[rng.integers(len(kinds))] + rng.bytes(int(rng.integers(0, 20)))


def _narrow(rng: np.random.Generator) -> bytes:
    sides = (int(rng.integers(1, 9)), int(rng.integers(1000, 60000)))
    width, height = sides if rng.random() < 0.5 else sides[::-1]
    return _png(width, height, zlib.compress(bytes((1 + 3 * width) * height), 9))


_MAKERS: tuple[tuple[str, Maker], ...] = (
    ("plain", _plain),
    ("truncated", _truncated),
    ("flipped", _flipped),
    ("spliced", _spliced),
    ("noise", _noise),
    ("bomb", _bomb),
    ("bomb-within-limits", _bomb_within_limits),
    ("text-bomb", _text_bomb),
    ("profile-bomb", _profile_bomb),
    ("no-pixels", _no_pixels),
    ("huge-header", _huge_header),
    ("endless-scans", _endless_scans),
    ("cmyk", _cmyk),
    ("deep", _deep),
    ("deep-tiff", _deep_tiff),
    ("avif-or-heif", _new),
    ("palette", _palette),
    ("animated", _animated),
    ("endless-gif", _endless_gif),
    ("looping-tiff", _looping_tiff),
    ("turned", _turned),
    ("bad-exif", _bad_exif),
    ("bad-profile", _bad_profile),
    ("polyglot", _polyglot),
    ("other-kinds", _other_kinds),
    ("narrow", _narrow),
)
