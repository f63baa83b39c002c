"""Which pictures a profile means: the folder's photographs, and the big sets to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tudsr.data.index import StoredPicture, ensure_index, load_index
from tudsr.data.photos import SPLITS, Photograph, data_version, list_photographs
from tudsr.data.sources import list_sources, sources_version
from tudsr.profile import DataSettings


def photographs_of(settings: DataSettings) -> list[Photograph]:
    """The folder's photographs; with ``train_sources``, those of val and test alone."""
    splits = [split for split in SPLITS if split != "train" or not settings.train_sources]
    return list_photographs(Path(settings.root), splits)


def training_photos(settings: DataSettings) -> list[Path]:
    """What training takes: the photographs in ``train/``, or the index file of the big sets.

    Raises:
        DataError: no photographs, or a source or shard that cannot be read.
    """
    if settings.train_sources:
        return [ensure_index(settings.train_sources)]
    listed = list_photographs(Path(settings.root))
    return [photo.path for photo in listed if photo.split == "train"]


def training_sample(settings: DataSettings) -> list[StoredPicture]:
    """``settings.sample`` pictures of the big sets, evenly spaced; none without such sets.

    Raises:
        DataError: a source or shard that cannot be read.
    """
    if not settings.train_sources:
        return []
    index = load_index(ensure_index(settings.train_sources))
    places = np.linspace(0, len(index) - 1, min(settings.sample, len(index)))
    return [index[int(place)] for place in places]


def set_version(settings: DataSettings) -> str:
    """The version of all pictures of a profile: the folder's, and the big sets' after a plus.

    The folder's is a hash of contents, as DVC's. The big sets' is one of names, sizes and S3 ETags
    or times of modification: their contents are not read for it.

    Raises:
        DataError: no such folder, or a source that cannot be listed.
    """
    folder = data_version(Path(settings.root))
    if not settings.train_sources:
        return folder
    return f"{folder}+{sources_version(list_sources(settings.train_sources))}"
