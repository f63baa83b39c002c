"""The model card: what a model is for, what made it, what it reaches and where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from tudsr.data.photos import Photograph
from tudsr.profile import Profile
from tudsr.provenance import Provenance
from tudsr.release.gate import Verdict


def model_card(
    profile: Profile, provenance: Provenance, verdict: Verdict, photographs: Sequence[Photograph]
) -> str:
    """Markdown, from the verdict's figures and the training photographs' authors."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("tudsr.release").joinpath("card.md").read_text(encoding="utf-8")
    )
    train = [photo for photo in photographs if photo.split == "train"]
    credits = Counter((photo.author, photo.licence) for photo in train)
    return template.render(
        profile=profile,
        provenance=provenance,
        verdict=verdict,
        photographs=len(train),
        credits=sorted(credits.items()),
        lower_is_better=("lpips", "dists", "niqe", "delta_e", "seam"),
    )
