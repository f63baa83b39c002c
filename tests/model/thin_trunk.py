"""The loss trunk at an eighth of its channels: its reach at a sixtieth of its work."""

import copy

from tudsr.model.losses import Dists, StagedTrunk
from tudsr.model.trunks import load_trunk


def thin_trunk() -> StagedTrunk:
    """Frozen, of random weights, always the same; one's own."""
    return StagedTrunk(copy.deepcopy(load_trunk("random_eighth")))


def thin_dists(_: object = None) -> Dists:
    """DISTS with weights for as many channels as there are."""
    return Dists(thin_trunk().widths)
