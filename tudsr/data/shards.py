"""What a tar shard holds and where: only headers are read, so pictures can be fetched singly."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, cast

from tudsr.data.sources import IMAGE_SUFFIXES, StoredFile, naming, open_stored
from tudsr.errors import DataError

_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Member:
    """A picture inside a shard: its name and the bytes that are its file."""

    name: str
    offset: int
    size: int


def scan_shard(shard: StoredFile) -> list[Member]:
    """The pictures of a tar, in its order; other members, links and hidden files are passed over.

    Raises:
        DataError: not a tar, one that is cut off or damaged between its members, or unreachable.
    """
    with naming(shard.url), open_stored(shard.url) as stream:
        try:
            return _members(stream)
        except tarfile.TarError as error:
            raise DataError(
                f"shard {shard.url} is not a whole tar ({error}; {shard.size} bytes): fetch or "
                "pack it again, or take it out of the set"
            ) from None


def _members(stream: IO[bytes]) -> list[Member]:
    members: list[Member] = []
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        while (info := tar.next()) is not None:
            if info.isreg() and not info.issparse() and _is_picture(info.name):
                members.append(Member(info.name, info.offset_data, info.size))
            cast(Any, tar).members = []  # else tarfile keeps a kilobyte a member
        _check_end(stream, tar.offset)
    return members


def _check_end(stream: IO[bytes], offset: int) -> None:
    """tarfile stops without a word at a damaged header: only a block of zeros is a tar's end."""
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise tarfile.ReadError(f"the file ends at byte {offset + len(block)} without an end mark")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {offset}")


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
