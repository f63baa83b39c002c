"""The model that a benchmark measures where none is named: what a fresh clone has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.base_alone import zero_adapters
from tudsr.errors import ModelError
from tudsr.model.version import base_version
from tudsr.places import outputs_dir
from tudsr.profile import PROJECT_ROOT, load_profile
from tudsr.provenance import collect
from tudsr.release.bundle import MANIFEST, load_bundle, write_bundle
from tudsr.release.locate import locate


@dataclass(frozen=True)
class AtHand:
    """A bundle and what it is, in words."""

    path: Path
    what: str


def model_at_hand(model: str | None, scratch: Path) -> AtHand:
    """The named model, else the champion, the shipped one, the last run's, or the base alone.

    ``scratch`` takes the last of these, which costs the same to run: its adapters are zeros.

    Raises:
        ModelError, RegistryError: a model that was named and is not there, or no base either.
    """
    try:
        found = locate(model)
    except ModelError:
        if model is not None:
            raise
    else:
        version = f" {found.version}" if found.version else ""
        return AtHand(found.path, f"{found.how}{version}, {_short(found.path)}")
    run = outputs_dir() / "run" / "bundle"
    if (run / MANIFEST).is_file():
        return AtHand(run, f"the last run's, {_short(run)}; no model is shipped yet")
    alone = _base_alone(scratch)
    return AtHand(alone, "models/base with adapters of zeros; no model is shipped yet")


def _base_alone(scratch: Path) -> Path:
    profile = load_profile("tiny")
    adapters, out = zero_adapters(profile, scratch), scratch / "base-alone"
    made = collect(profile, "none", base_version(profile.base))
    base = PROJECT_ROOT / profile.base.source
    write_bundle(out, base, adapters[1], adapters[2], profile, {}, made, "# The base alone\n")
    return out


def _short(bundle: Path) -> str:
    return load_bundle(bundle, verify=False).bundle_hash[:12]
