"""Where a big training set lies: folders and tar shards, on a local disk or in an S3 bucket.

A source is a folder, one ``.tar``, or a pattern of them; local, or ``s3://bucket/prefix``. Files
are listed once and then read by byte range, through fsspec, which torch brings; S3 needs s3fs
beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from tudsr.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SHARD_SUFFIX = ".tar"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MAGIC = "*?["
# A tar's header with what may stand before it (pax, long names), in one request.
_PIECE_BYTES = 4096


@dataclass(frozen=True)
class StoredFile:
    """One file of a source.

    Attributes:
        source: position of the source it belongs to.
        name: path below the source's root, with forward slashes.
        url: where to read it.
        size: bytes.
        tag: changes with the content: an S3 ETag, else the time of modification in seconds.
    """

    source: int
    name: str
    url: str
    size: int
    tag: str

    @property
    def is_shard(self) -> bool:
        """Whether it is a tar of pictures rather than a picture."""
        return self.name.lower().endswith(SHARD_SUFFIX)


def list_sources(sources: Sequence[str]) -> list[StoredFile]:
    """Every picture and shard of the sources, by source and name; hidden files do not count.

    Raises:
        DataError: a source that cannot be listed, holds neither pictures nor shards, is of an
            unknown kind, or holds compressed tars.
    """
    return [file for number, source in enumerate(sources) for file in _list(number, source)]


def sources_version(files: Sequence[StoredFile]) -> str:
    """SHA-256 over names, sizes and tags: changes when a file is added, removed or rewritten."""
    listing = [[file.source, file.name, file.size, file.tag] for file in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def root_of(source: str) -> str:
    """What names are relative to: the folder, or the one that holds the shard or the pattern."""
    head = source.rstrip("/")
    while any(sign in head for sign in _MAGIC) or head.lower().endswith(SHARD_SUFFIX):
        head = head.rpartition("/")[0] or ("/" if head.startswith("/") else ".")
    return head


def read_range(url: str, offset: int, length: int) -> bytes:
    """``length`` bytes of a stored file from ``offset`` on.

    Raises:
        DataError: the file cannot be read, or ends before.
    """
    if length == 0:
        return b""
    with naming(url):
        filesystem, path = _filesystem(url)
        data: bytes = filesystem.cat_file(path, start=offset, end=offset + length)
    if len(data) != length:
        raise DataError(
            f"{url} ends at byte {offset + len(data)}, before byte {offset + length} that its "
            "index names: it was cut or replaced; restore it, then start again"
        )
    return data


def open_stored(url: str) -> IO[bytes]:
    """A stored file as a stream to seek in, for reading little pieces of it."""
    filesystem, path = _filesystem(url)
    return filesystem.open(path, "rb", block_size=_PIECE_BYTES, cache_type="readahead")


def _list(number: int, source: str) -> list[StoredFile]:
    with naming(source):
        filesystem, path = _filesystem(source)
        filesystem.invalidate_cache()
        found = _walk(filesystem, path)
        root = _filesystem(root_of(source))[1].rstrip("/") + "/"
    files = [
        StoredFile(number, name, f"{root_of(source)}/{name}", int(info["size"]), _tag(info))
        for name, info in sorted((path.removeprefix(root), info) for path, info in found.items())
        if _is_wanted(name, source)
    ]
    if not files:
        raise DataError(
            f"no pictures and no .tar shards in {source}: check data.train_sources in the profile "
            f"(pictures end in {', '.join(IMAGE_SUFFIXES)})"
        )
    return files


def _walk(filesystem: Any, path: str) -> dict[str, Any]:
    """Files by path; a pattern's folders are walked too."""
    if not any(sign in path for sign in _MAGIC):
        return dict(filesystem.find(path, detail=True))
    found: dict[str, Any] = {}
    for name, info in filesystem.glob(path, detail=True).items():
        found |= filesystem.find(name, detail=True) if info["type"] == "directory" else {name: info}
    return found


def _is_wanted(name: str, source: str) -> bool:
    if PurePosixPath(name).name.startswith("."):
        return False
    if name.lower().endswith(_COMPRESSED):
        raise DataError(
            f"{name} in {source} is a compressed tar, whose members cannot be read singly: "
            "unpack it to .tar (pictures gain nothing from it)"
        )
    return name.lower().endswith((*IMAGE_SUFFIXES, SHARD_SUFFIX))


def _tag(info: dict[str, Any]) -> str:
    return str(info["ETag"]).strip('"') if "ETag" in info else str(int(info["mtime"]))


def _filesystem(url: str) -> tuple[Any, str]:
    """The store of a URL and the path in it; fsspec gives a forked process a client of its own."""
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme not in ("file", "s3"):
        raise DataError(f"{url}: sources are local paths or s3://bucket/prefix, not {scheme}://")
    from fsspec.core import url_to_fs

    path = url if "://" in url else os.path.abspath(url)  # noqa: PTH100 - keeps a pattern as it is
    return url_to_fs(path)


@contextmanager
def naming(url: str) -> Generator[None]:
    """Turn whatever a store's client raises into one sentence that names the file."""
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"{url} needs a package: {error}. Install it: `uv pip install -e '.[s3]'`"
        ) from None
    except Exception as error:  # every store's client has exceptions of its own
        raise DataError(
            f"{url} cannot be read ({type(error).__name__}: {error}): check that it exists and may "
            "be read; for S3 also the credentials and AWS_ENDPOINT_URL. Then start again"
        ) from None
