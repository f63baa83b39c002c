"""What makes a photograph usable, as data: one rule a column of the facts table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tudsr.data.facts import Facts, hash_distance
from tudsr.profile import DataSettings

# Whose copy stays when two photographs are near-duplicates: a twin of a test photograph in
# train would let the model see its own exam.
_KEEPING_ORDER = ("test", "val", "train")


@dataclass(frozen=True)
class Rule:
    """A bound on one column, and the sentence for a photograph that breaks it.

    Either ``allowed`` lists the good values or ``low`` and ``high`` are inclusive bounds; an empty
    cell is never a breach. ``sentence`` is formatted with the row's columns.
    """

    column: str
    sentence: str
    allowed: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None

    def explain(self, row: dict[str, Any]) -> str:
        """Why this row is set aside."""
        return self.sentence.format(**row)


def row_rules(settings: DataSettings) -> list[Rule]:
    """The rules that each photograph must meet, with the bounds of ``settings``."""
    s = settings
    return [
        Rule("decodable", "{reason}", allowed=(True,)),
        Rule("manifest", "differs from its SHA-256 in manifest.csv", allowed=("agrees", "absent")),
        Rule("mode", "mode {mode} is neither 8-bit RGB nor grey (L)", allowed=("RGB", "L")),
        Rule(
            "short_side",
            f"{{width}} x {{height}}: the shorter side is below min_side_px = {s.min_side_px}",
            low=s.min_side_px,
        ),
        Rule(
            "long_side",
            f"{{width}} x {{height}}: the longer side is above max_side_px = {s.max_side_px}",
            high=s.max_side_px,
        ),
        Rule(
            "sharpness",
            f"sharpness {{sharpness}} is below min_sharpness = {s.min_sharpness:g}",
            low=s.min_sharpness,
        ),
        Rule("noise", f"noise {{noise}} is above max_noise = {s.max_noise:g}", high=s.max_noise),
        Rule(
            "blockiness",
            f"JPEG blockiness {{blockiness}} is above max_blockiness = {s.max_blockiness:g}",
            high=s.max_blockiness,
        ),
        Rule("duplicate_of", "near-duplicate of {duplicate_of}", allowed=("",)),
    ]


def needed_photographs(settings: DataSettings) -> dict[str, int]:
    """How many usable photographs each split must have."""
    return {"train": settings.min_train, "val": settings.min_val, "test": settings.min_test}


def find_duplicates(facts: Sequence[Facts], bits: int) -> dict[str, str]:
    """Near-duplicates to set aside, each with the photograph that stays for it.

    Two photographs are near-duplicates when their perceptual hashes differ in at most ``bits``
    bits. Across splits the test photograph stays, then the val one; within a split the first by
    name.
    """
    kept: list[Facts] = []
    twins: dict[str, str] = {}
    hashed = [row for row in facts if row.phash is not None]
    for row in sorted(hashed, key=lambda row: (_KEEPING_ORDER.index(row.split), row.file)):
        distances = [(hash_distance(row.phash or "", k.phash or ""), k.file) for k in kept]
        nearest = min(distances, default=(65, ""))
        if nearest[0] <= bits:
            twins[row.file] = nearest[1]
        else:
            kept.append(row)
    return twins
