"""In which order a big set is gone through: shuffled, and still read place by place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# 16 runs of neighbours are mixed with each other: at a thousand pictures a shard, at most 32 shards
# are open at a time, and 4096 pictures lie between a picture and its neighbour on average.
RUN = 256
WINDOW = 16 * RUN


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1 that depends on (count, seed, epoch) alone.

    Runs of 256 neighbours change places as wholes; then each window of 4096 is shuffled within.
    Neither workers nor ranks enter: whoever knows a position knows its picture.
    """
    rng = np.random.default_rng((seed, 1, epoch))
    starts = rng.permutation(np.arange(0, count, RUN))
    order = np.concatenate([np.arange(s, min(s + RUN, count)) for s in starts])
    for left in range(0, count, WINDOW):
        rng.shuffle(order[left : left + WINDOW])
    return order
