import time

import pytest
from torch.utils.data import DataLoader

from tudsr.train.wait import DataWait


class Clock:
    """Time that passes only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def slow_batches(clock, seconds):
    for number, taken in enumerate(seconds):
        clock.now += taken
        yield number


def test_the_share_is_waiting_over_all_time_since_the_first_batch():
    clock = Clock()
    waiting = DataWait(slow_batches(clock, [50.0, 1.0, 0.0, 2.0]), clock=clock)
    assert waiting.figures() == {}
    seen = []
    for batch in waiting:
        seen.append(batch)
        clock.now += 3.0  # the work
    assert seen == [0, 1, 2, 3]
    assert waiting.figures() == {"data_wait": pytest.approx(3 / 15), "data_start_s": 50.0}


def test_data_at_hand_is_no_wait_and_no_time_is_no_division_by_zero():
    clock = Clock()
    waiting = DataWait([1, 2, 3], clock=clock)
    for _ in waiting:
        assert waiting.figures()["data_wait"] == 0


class Sleepy:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        time.sleep(0.05)
        return index


@pytest.mark.parametrize(
    ("workers", "work_s", "low", "high"), [(0, 0.05, 0.4, 0.6), (1, 0.15, 0, 0.1)]
)
def test_a_worker_hides_what_the_loop_alone_would_wait_for(workers, work_s, low, high):
    waiting = DataWait(DataLoader(Sleepy(), batch_size=1, num_workers=workers))
    for _ in waiting:
        time.sleep(work_s)
    assert low <= waiting.figures()["data_wait"] <= high
