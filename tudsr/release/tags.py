"""The tags of a registered version: what MLflow's page shows and promotion decides by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tudsr.release.bundle import BundleManifest

# The only tags that may change later: how the version stood to whatever was champion then.
COMPARISON = ("beats_champion", "compared_with", "versus_champion")
NO_CHAMPION = "none"
# How the model that comes with the repository is called where it stands in for a champion.
SHIPPED_MODEL = "shipped"


def lineage_tags(manifest: BundleManifest) -> dict[str, str]:
    """Which code, data, base, settings and seed made the bundle."""
    made = manifest.provenance
    return {
        "code": made.code,
        "commit": (made.commit or "none") + (" (with local changes)" if made.dirty else ""),
        "data": made.data,
        "base": made.base,
        "profile": str(manifest.profile.get("name", "")),
        "profile_hash": made.profile,
        "seed": str(made.seed),
    }


def gate_tags(gate_json: Path) -> dict[str, str]:
    """The verdict, the comparison with the champion, and the means, from ``gate.json``."""
    gate: dict[str, Any] = json.loads(gate_json.read_text(encoding="utf-8"))
    beats = gate.get("beats_champion")
    return {
        "gate": "open" if gate.get("open") is True else "closed",
        "perceptual": str(gate.get("perceptual", "")),
        "beats_champion": NO_CHAMPION if beats is None else str(bool(beats)).lower(),
        "compared_with": str(gate.get("champion") or NO_CHAMPION),
        "versus_champion": json.dumps(gate.get("versus_champion") or {}),
        **{f"gain_{scale}": f"{gain:.4f}" for scale, gain in gate.get("gains", {}).items()},
        **_mean_tags(gate.get("means", {}).get("model", {})),
    }


def in_words(compared_with: str) -> str:
    """What a version was compared with."""
    if compared_with == NO_CHAMPION:
        return "no champion"
    if compared_with.startswith(SHIPPED_MODEL):
        return "the model that comes with the project"
    return f"version {compared_with}"


def interval_sentence(versus_champion: str, perceptual: str) -> str:
    """By how much a version lost or won, with the intervals, in words."""
    by_scale: dict[str, dict[str, Any]] = json.loads(versus_champion or "{}")
    parts = [
        f"{scale}: {perceptual} {p['mean']:+.4f} (95 % interval {p['low']:+.4f} to "
        f"{p['high']:+.4f}, better on {p['smaller']} of {p['count']} pictures)"
        for scale, p in by_scale.items()
    ]
    return "; ".join(parts) or "no interval was recorded"


def _mean_tags(means: dict[str, dict[str, float]]) -> dict[str, str]:
    return {
        f"{metric}_{scale}": f"{value:.4f}"
        for scale, metrics in means.items()
        for metric, value in metrics.items()
    }
