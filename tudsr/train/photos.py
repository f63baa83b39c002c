"""What all ranks train on: one of them finds it, so that a big set is indexed once."""

from __future__ import annotations

from pathlib import Path

from tudsr.data.sets import training_photos
from tudsr.images.atomic import write_bytes
from tudsr.places import outputs_dir
from tudsr.profile import Profile
from tudsr.train.device import pick_device
from tudsr.train.ranks import from_rank_0, join, rank


def shared_photos(profile: Profile) -> list[Path]:
    """The photographs of ``train/``, or the index file of the big sets, the same on every rank.

    Rank 0 lists the sets and reads the shards' headers; the others wait, up to
    ``runtime.ranks_timeout_s``, and get the index as bytes. It is stored where it is not there yet:
    on another node, whose disk need not be shared.

    Raises:
        DataError: no photographs, or a source or shard that cannot be read.
        TrainingError: the ranks did not meet, or rank 0 found no set.
    """
    if not profile.data.train_sources:
        return training_photos(profile.data)
    join(profile.runtime, pick_device(profile.runtime))
    found = training_photos(profile.data)[0] if rank() == 0 else None
    place = from_rank_0(str(found.relative_to(outputs_dir())).encode() if found else None) or b""
    content = from_rank_0(found.read_bytes() if found else None) or b""
    path = outputs_dir() / place.decode()
    if not path.is_file():
        write_bytes(path, content)
    return [path]
