"""How many scans a JPEG has: each is a pass over the whole picture, and a few bytes ask for one.

What cameras and programs write has ten or fewer; a file made to keep a decoder busy has thousands.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from tudsr.errors import ImageError

MAX_SCANS = 100

# FF and a marker's number; not a stuffed byte, a restart or fill.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_START, _SCAN, _END, _TEMPORARY = 0xD8, 0xDA, 0xD9, 0x01


def check_scans(source: Path | bytes, name: str) -> None:
    """Refuse a JPEG with more than `MAX_SCANS`.

    Raises:
        ImageError: ``too_large``.
    """
    if isinstance(source, bytes):
        count = count_scans(source)
    else:
        how = {"access": mmap.ACCESS_READ}
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, **how) as mapped:
            count = count_scans(mapped)
    if count > MAX_SCANS:
        raise ImageError(
            "too_large",
            f"{name} is a JPEG of more than {MAX_SCANS} scans, the limit: save it again, for "
            "example as a PNG",
        )


def count_scans(data: bytes | mmap.mmap) -> int:
    """Scans of the first picture in a JPEG file, up to one more than `MAX_SCANS`.

    Markers are followed by their lengths, so that neither thumbnails nor profiles count.
    """
    at, count = 0, 0
    while count <= MAX_SCANS and (found := _MARKER.search(data, at)):
        marker, at = found[1][0], found.end()
        if marker == _END:
            break
        if marker in (_START, _TEMPORARY):
            continue
        count += marker == _SCAN
        at += int.from_bytes(data[at : at + 2], "big")
    return count
