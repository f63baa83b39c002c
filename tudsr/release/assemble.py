"""From what training left behind to a bundle: the base's files, the card and the provenance."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from tudsr.data.sets import photographs_of
from tudsr.profile import Profile
from tudsr.provenance import collect
from tudsr.release.bundle import BundleManifest, write_bundle
from tudsr.release.card import model_card
from tudsr.release.gate import Verdict


def assemble(
    out: Path,
    profile: Profile,
    adapters: dict[int, Path],
    verdict: Verdict,
    accepted: Collection[str],
    data_version: str,
    base_version: str,
) -> BundleManifest:
    """Write the bundle of a judged model to the folder ``out``.

    ``adapters`` are the files of stages 1 and 2, ``accepted`` the keys of the photographs that
    validation let through, such as ``train/horse.webp``: the card names no others. A random base,
    which has no folder, is written out first, so that the bundle is whole.
    """
    provenance = collect(profile, data_version, base_version)
    gate = verdict.model_dump(mode="json")
    photographs = [
        {"file": photo.file, "author": photo.author, "licence": photo.licence}
        for photo in photographs_of(profile.data)
        if photo.file in accepted
    ]
    card = model_card(profile, gate, provenance, photographs)
    with tempfile.TemporaryDirectory() as scratch:
        base = _base_folder(profile, Path(scratch) / "base")
        return write_bundle(out, base, adapters[1], adapters[2], profile, gate, provenance, card)


def _base_folder(profile: Profile, scratch: Path) -> Path:
    if profile.base.random_seed is None:
        return Path(profile.base.source)
    import torch

    from tudsr.model.base import load_base, save_base

    base = load_base(profile.base)
    save_base(base, scratch, base.info, torch.float32)
    return scratch
