"""Where each picture of a big set is: built once, kept as a file, then read at random.

An index takes about 40 bytes a picture. Its file's name holds the set's version, so a changed set
gets an index of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.data.shards import Member, scan_shard
from tudsr.data.sources import (
    StoredFile,
    list_sources,
    read_range,
    root_of,
    sources_version,
)
from tudsr.errors import DataError
from tudsr.images.atomic import writing
from tudsr.places import outputs_dir

INDEX_SUFFIX = ".index.safetensors"
_FORMAT = 1
# Shards whose headers are read at a time: what counts for S3 is the delay of each request.
_SCANNERS = 16


@dataclass(frozen=True)
class StoredPicture:
    """One picture of a set: what it is called, its source's position and which bytes it is."""

    label: str
    source: int
    url: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The picture's file. Raises DataError where the store or the shard cannot be read."""
        return read_range(self.url, self.offset, self.size)


class Names:
    """Many strings in two arrays: no object for each, and workers share them as they are."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Pack the strings."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        text = self.text[start : int(self.ends[number])].tobytes()
        return text.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Index:
    """The pictures of a set by number, in the order of sources, files and members.

    Attributes:
        sources: as the profile names them.
        version: of the set, see ``tudsr.data.sources.sources_version``.
        file_source: (F,) position of each file's source.
        file_names: the files' names below their source's root.
        file: (N,) file of each picture.
        offset: (N,) its first byte in that file.
        size: (N,) its length in bytes.
        names: its name inside a shard; empty for a picture in a file of its own.
    """

    sources: tuple[str, ...]
    version: str
    file_source: NDArray[np.int32]
    file_names: Names
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    names: Names

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, number: int) -> StoredPicture:
        file = int(self.file[number])
        source = int(self.file_source[file])
        url = f"{root_of(self.sources[source])}/{self.file_names[file]}"
        name = self.names[number]
        label = f"{self.file_names[file]}/{name}" if name else self.file_names[file]
        return StoredPicture(label, source, url, int(self.offset[number]), int(self.size[number]))


def ensure_index(sources: Sequence[str], version: str | None = None) -> Path:
    """The index file of a set under ``outputs/cache/index``, built where it is not there yet.

    The sources are listed each time, which is quick; shards' headers are read only for a new index.

    Raises:
        DataError: a source or shard that cannot be read, or, given ``version``, a set that has
            changed since.
    """
    files = list_sources(sources)
    found = sources_version(files)
    if version is not None and found != version:
        raise DataError(
            f"the training set has changed since it was validated (version {version[:12]}, now "
            f"{found[:12]}): validate again, or restore it. Copies must keep their files' times"
        )
    key = hashlib.sha256(json.dumps([_FORMAT, found, list(sources)]).encode()).hexdigest()
    path = outputs_dir() / "cache" / "index" / f"{key[:16]}{INDEX_SUFFIX}"
    if not path.is_file():
        save_index(build_index(sources, files), path)
    return path


def build_index(sources: Sequence[str], files: Sequence[StoredFile]) -> Index:
    """Index the listed files; shards' headers are read by a few threads.

    Raises:
        DataError: a shard that is not a whole tar, or no pictures in any of them.
    """
    shards = [file for file in files if file.is_shard]
    with ThreadPoolExecutor(_SCANNERS) as pool:
        scanned = dict(zip([s.url for s in shards], pool.map(scan_shard, shards), strict=True))
    pictures = [
        (number, member)
        for number, file in enumerate(files)
        for member in (scanned[file.url] if file.is_shard else [Member("", 0, file.size)])
    ]
    if not pictures:
        raise DataError(f"the shards of {', '.join(sources)} hold no pictures: check what they are")
    return Index(
        tuple(sources),
        sources_version(files),
        np.array([file.source for file in files], np.int32),
        Names.of(file.name for file in files),
        np.array([number for number, _ in pictures], np.int32),
        np.array([member.offset for _, member in pictures], np.int64),
        np.array([member.size for _, member in pictures], np.int64),
        Names.of(member.name for _, member in pictures),
    )


def save_index(index: Index, path: Path) -> None:
    """Write an index atomically; the same index is the same bytes."""
    from safetensors.numpy import save_file

    about = {"format": _FORMAT, "sources": list(index.sources), "version": index.version}
    with writing(path) as temporary:
        save_file(_arrays(index), temporary, {"index": json.dumps(about)})


def load_index(path: Path) -> Index:
    """Read an index.

    Raises:
        DataError: there is none, or it is damaged or of another version of this program.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads(file.metadata()["index"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a readable index ({error}): remove it") from None
    if about["format"] != _FORMAT:
        raise DataError(f"{path} is an index of format {about['format']}, not {_FORMAT}: remove it")
    return Index(
        tuple(about["sources"]),
        about["version"],
        arrays["file_source"],
        Names(arrays["file_names"], arrays["file_name_ends"]),
        arrays["file"],
        arrays["offset"],
        arrays["size"],
        Names(arrays["names"], arrays["name_ends"]),
    )


def _arrays(index: Index) -> dict[str, NDArray[Any]]:
    return {
        "file_source": index.file_source,
        "file_names": index.file_names.text,
        "file_name_ends": index.file_names.ends,
        "file": index.file,
        "offset": index.offset,
        "size": index.size,
        "names": index.names.text,
        "name_ends": index.names.ends,
    }
