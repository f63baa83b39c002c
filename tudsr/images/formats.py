"""Formats that can be read: some of Pillow's, AVIF where it has it, HEIC with an extra package."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from PIL import features

KNOWN = "JPEG, PNG, WebP, TIFF, AVIF, HEIC, GIF or BMP"

# Pillow identifies just these: fewer decoders are fewer ways to be attacked.
_ALWAYS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"GIF8")
_AVIF, _HEIC = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
_HIGH_BIT_DEPTH = 0x40


@cache
def readable() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here; HEIC is made known to it."""
    more = ["AVIF"] if features.check("avif") else []
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener  # pyright: ignore

        register_heif_opener(thumbnails=False)
        more.append("HEIF")
    return (*_ALWAYS, *more)


def looks_like_a_picture(data: bytes) -> bool:
    """Whether it begins as a picture of a known format does."""
    return data.startswith(_SIGNATURES) or _brand(data) in _AVIF + _HEIC


def missing(data: bytes) -> str | None:
    """What to install or do, where the data is of a known format that cannot be read here."""
    if _brand(data) in _HEIC and "HEIF" not in readable():
        return "is HEIC, which needs an extra (uv pip install -e '.[heic]'), or export it as JPEG"
    if _brand(data) in _AVIF and "AVIF" not in readable():
        return "is AVIF, which this Pillow was built without: export it as PNG or WebP"
    return None


def sample_bits(data: bytes, fmt: str) -> int:
    """Bits a sample of an AVIF or HEIF: Pillow would cut 10 and 12 down to 8 unasked.

    From the configuration box of the codec: av1C (AV1-ISOBMFF, 2.3.3) has a flag for more than 8
    bits, hvcC (ISO 14496-15, 8.3.2.1) the depth less 8 in its 18th byte.
    """
    if fmt == "AVIF" and (at := data.find(b"av1C")) >= 0 and at + 6 < len(data):
        return 10 if data[at + 6] & _HIGH_BIT_DEPTH else 8
    if fmt == "HEIF" and (at := data.find(b"hvcC")) >= 0 and at + 21 < len(data):
        return 8 + (data[at + 21] & 7)
    return 8


def _brand(data: bytes) -> bytes:
    """The main brand of an ISO base media file, or nothing."""
    return data[8:12] if data[4:8] == b"ftyp" else b""
