import numpy as np
import pytest

from tudsr.data.order import RUN, WINDOW, epoch_order


@pytest.mark.parametrize("count", [1, 2, RUN, RUN + 1, WINDOW, 3 * WINDOW + 17])
def test_an_epoch_shows_everything_once(count):
    assert np.array_equal(np.sort(epoch_order(count, 0, 0)), np.arange(count))


def test_it_depends_on_seed_and_epoch_and_on_nothing_else():
    first = epoch_order(1000, 3, 2)
    np.random.default_rng(0).random(10)
    assert np.array_equal(first, epoch_order(1000, 3, 2))
    for other in (epoch_order(1000, 3, 1), epoch_order(1000, 4, 2), np.arange(1000)):
        assert (first == other).mean() < 0.05


def test_it_is_well_mixed_and_still_local():
    count = 85_000
    order = epoch_order(count, 0, 0)
    assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 0.2
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.2
    windows = [order[left : left + WINDOW] // RUN for left in range(0, count, WINDOW)]
    assert max(len(np.unique(window)) for window in windows) <= WINDOW // RUN + 2
    steps = np.abs(np.diff(order))
    assert (steps == 1).mean() < 0.005
