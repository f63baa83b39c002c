"""Whose turn it is, which tiles go together, and what makes work stop."""

import math
import threading
import time

import numpy as np
import pytest

from serving.batching import SharedRuntime, TileQueue
from serving.refusal import Refusal
from serving.scheduler import Scheduler, Speed
from serving.settings import ServeSettings
from serving.ticket import Cost, Ticket, cost_of
from tests.serving.fakes import FakeRuntime, until
from tudsr.profile import UpscaleSettings
from tudsr.upscale.upscaler import Upscaler

TILE = np.zeros((32, 32, 3), np.float32)
PX = 32 * 32


def cost(tiles: int) -> Cost:
    return Cost(tiles, tiles * PX, tiles * PX)


class Rig:
    """A scheduler and a tile queue over a fake model of 1 ms a tile."""

    def __init__(self, batch_px: int = PX, **settings):
        self.speed, self.runtime = Speed(), FakeRuntime(0.001)
        self.speed.measured(PX, 0.001)
        self.settings = ServeSettings(**{"small_px": 10 * PX, "max_wait_s": 1000, **settings})
        self.scheduler = Scheduler(self.settings, self.speed)
        self.tiles = TileQueue(batch_px, self.speed)
        self.finished: list[str] = []

    def hold(self) -> None:
        """Keep the model busy with a tile like no other until the gate opens."""
        self.runtime.gate.clear()
        ticket = Ticket(cost(1), 0, time.monotonic() + 60)
        odd = (self.runtime, TILE[:8], 2, ticket)
        threading.Thread(target=self.tiles.restore, args=odd).start()
        until(lambda: self.runtime.entered)

    def submit(self, name: str, tiles: int, value: float = 0.0, deadline_s: float = 60, **how):
        def work(ticket: Ticket):
            shared = SharedRuntime(self.tiles, self.runtime, ticket)
            for done in range(tiles):
                restored = shared.restore(TILE + value, 1)
                assert (restored == value).all(), "a tile of another picture came back"
                ticket.progress(done + 1, tiles)
            self.finished.append(name)
            return name

        return self.scheduler.submit(cost(tiles), work, deadline_s, **how)


def test_a_small_picture_overtakes_huge_ones_that_came_before():
    rig = Rig()
    huge = [rig.submit(f"huge{k}", 400)[1] for k in range(5)]
    until(lambda: len(rig.runtime.batches) > 3)
    start = time.monotonic()
    rig.submit("small", 3)[1].result(10)
    assert time.monotonic() - start < 1.5, "a huge one takes 0.4 s, all of them 2 s"
    assert rig.finished == ["small"]
    assert [f.result(30) for f in huge] == [f"huge{k}" for k in range(5)]


def test_small_pictures_go_in_the_order_of_arrival_among_themselves():
    rig = Rig()
    rig.hold()
    larger, _ = rig.submit("larger", 9)
    smaller, _ = rig.submit("smaller", 1)
    huge, _ = rig.submit("huge", 100)
    assert larger.due < smaller.due < huge.due
    rig.runtime.gate.set()


def test_a_huge_picture_is_not_starved_by_small_ones():
    rig = Rig()
    _, huge = rig.submit("huge", 100)
    stop = threading.Event()

    def crowd():
        while not stop.is_set():
            rig.submit("small", 9)[1].result(10)

    threads = [threading.Thread(target=crowd) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        huge.result(20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert rig.finished.count("small") > 5


def test_equal_pictures_finish_about_in_the_order_of_arrival():
    rig = Rig()
    rig.runtime.gate.clear()
    futures = [rig.submit(str(k), 20)[1] for k in range(12)]
    rig.runtime.gate.set()
    for future in futures:
        future.result(20)
    # One whose tile is being blended lets the next one's tile pass.
    assert all(abs(place - int(name)) <= 2 for place, name in enumerate(rig.finished))


def test_tiles_of_several_pictures_go_through_the_model_together():
    rig = Rig(batch_px=4 * PX, slots=6)
    rig.hold()
    futures = [rig.submit(str(k), 5, value=k / 8)[1] for k in range(6)]
    until(lambda: len(rig.tiles._waiting) == 6)
    rig.runtime.gate.set()
    for future in futures:
        future.result(20)
    sizes = [len(batch) for batch in rig.runtime.batches]
    assert max(sizes) == 4, "no more than batch_px allows"
    assert sum(sizes) == 31
    mixed = [batch for batch in rig.runtime.batches if len({mean for *_, mean in batch}) > 1]
    assert mixed, "tiles of different pictures met"


def test_only_tiles_of_one_stage_and_shape_go_together():
    rig = Rig(batch_px=100 * PX)
    rig.hold()
    asked = [(TILE, 1), (TILE, 2), (TILE[:16], 1), (TILE, 1), (TILE[:16], 1)]
    ticket = Ticket(cost(9), 0, time.monotonic() + 60)
    threads = [
        threading.Thread(target=rig.tiles.restore, args=(rig.runtime, tile, stage, ticket))
        for tile, stage in asked
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(rig.tiles._waiting) == 5)
    rig.runtime.gate.set()
    for thread in threads:
        thread.join()
    assert all(len({tile[:2] for tile in batch}) == 1 for batch in rig.runtime.batches)
    assert sorted(len(batch) for batch in rig.runtime.batches) == [1, 1, 2, 2]


def test_a_deadline_stops_the_work_between_two_tiles():
    rig = Rig()
    _, future = rig.submit("slow", 10_000, deadline_s=0.1)
    with pytest.raises(Refusal) as caught:
        future.result(10)
    assert caught.value.code == "deadline"
    assert "of 10000 tiles" in str(caught.value)
    made = len(rig.runtime.batches)
    time.sleep(0.1)
    assert len(rig.runtime.batches) == made
    assert made < 200


def test_stopping_a_picture_frees_its_slot():
    rig = Rig()
    tickets = [rig.submit(str(k), 10_000)[0] for k in range(5)]
    until(lambda: len(rig.runtime.batches) > 3)
    for ticket in tickets:
        ticket.stop(Refusal("client_gone", "gone"))
    assert rig.submit("next", 20)[1].result(30) == "next"


def test_too_much_work_ahead_is_refused_with_an_honest_time():
    rig = Rig(max_wait_s=1)
    rig.runtime.gate.clear()
    while True:
        try:
            rig.submit("one", 100)  # 0.1 s each
        except Refusal as error:
            refusal = error
            break
    assert refusal.code == "queue_full"
    assert 10 <= len(rig.scheduler._tickets()) <= 12
    assert 0 < refusal.retry_after_s < 0.3, "one of 0.1 s more than the limit"
    assert refusal.all_headers() == {"Retry-After": "1"}
    rig.submit("small", 2)  # due before the others: nothing is ahead of it
    rig.submit("job", 100, job=True)  # jobs can wait
    rig.runtime.gate.set()


def test_draining_finishes_what_it_can_and_refuses_the_rest():
    rig = Rig()
    _, quick = rig.submit("quick", 50)
    _, slow = rig.submit("slow", 10_000)
    for k in range(4):
        rig.submit(f"filler{k}", 10_000)
    _, waiting = rig.submit("waiting", 10_000)
    _, job = rig.submit("job", 10_000, job=True)
    rig.scheduler.drain(0.5)
    until(lambda: rig.scheduler.draining)
    with pytest.raises(Refusal) as caught:
        rig.submit("late", 1)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5)
    assert quick.result(5) == "quick"
    for future in (slow, waiting, job):
        with pytest.raises(Refusal, match="being stopped"):
            future.result(5)


def test_jobs_leave_slots_to_people_who_wait():
    rig = Rig(slots=4)
    for k in range(6):
        rig.submit(f"job{k}", 10_000, job=True)
    until(lambda: len(rig.runtime.batches) > 3)
    assert rig.submit("someone", 20)[1].result(5) == "someone"
    assert len(rig.scheduler._running) == 2


def test_a_fault_in_one_picture_ends_no_thread():
    rig = Rig(slots=2)

    def broken(_: Ticket):
        raise RuntimeError("a fault")

    for _ in range(5):
        _, future = rig.scheduler.submit(cost(1), broken, 10)
        with pytest.raises(Refusal) as caught:
            future.result(5)
        assert caught.value.code == "internal"
        assert "a fault" not in str(caught.value)
    assert rig.submit("next", 2)[1].result(30) == "next"


def test_a_fault_of_the_model_ends_no_thread():
    rig = Rig()
    rig.runtime.restore_batch = None
    with pytest.raises(Refusal):
        rig.submit("broken", 1)[1].result(5)
    del rig.runtime.restore_batch
    assert rig.submit("next", 1)[1].result(30) == "next"


@pytest.mark.parametrize("one_pass_to", [2, 4])
def test_the_cost_is_what_the_upscaler_asks_of_the_model(one_pass_to):
    how = UpscaleSettings(tile_px=64, overlap_px=16, colour="none", one_pass_to=one_pass_to)
    for size, scale in [((40, 50), 4), ((70, 33), 8), ((20, 20), 1.5)]:
        runtime = FakeRuntime()
        result = Upscaler(runtime, how).upscale(np.zeros((*size, 3), np.float32), scale)
        planned = cost_of(size, scale, how, runtime.size_multiple)
        shapes = [shape for batch in runtime.batches for _, shape, _ in batch]
        assert planned.tiles == len(shapes)
        assert planned.px == sum(h * w for h, w, _ in shapes)
        assert planned.result_px == result.shape[0] * result.shape[1]


def test_the_cost_is_that_of_a_damaged_picture_where_that_is_more():
    how = UpscaleSettings(
        tile_px=64, overlap_px=16, colour="none", one_pass_to=4, small_steps_if_damaged=True
    )
    runtime, pixels = FakeRuntime(), np.zeros((40, 50, 3), np.float32)
    Upscaler(runtime, how).upscale(pixels, 4, [(2, 1), (2, 2)])
    shapes = [shape for batch in runtime.batches for _, shape, _ in batch]
    assert cost_of((40, 50), 4, how, runtime.size_multiple).px == sum(h * w for h, w, _ in shapes)


def test_a_large_tile_says_more_about_speed_than_small_ones():
    """Small tiles take longer a pixel; Retry-After once came to a quarter of an hour by them."""
    speed = Speed()
    guessed = speed.s_per_px
    speed.measured(64**2, 0.1)
    assert speed.s_per_px == pytest.approx(0.1 / 64**2)
    speed.measured(512**2, 0.2)
    for _ in range(5):
        speed.measured(64**2, 0.1)
    assert speed.s_per_px < 6 * 0.2 / 512**2
    for _ in range(100):
        speed.measured(512**2, 0.4)  # a slower machine is noticed
    assert speed.s_per_px == pytest.approx(0.4 / 512**2, rel=0.01)
    speed.starts_anew()
    assert speed.s_per_px == guessed


def test_a_jobs_time_begins_with_its_work():
    """However long it waited: nobody is on the line."""
    rig = Rig(slots=2)
    rig.hold()
    ahead = rig.submit("ahead", 3, job=True)[1]
    _, late = rig.submit("late", 3, job=True, deadline_s=0.3)
    time.sleep(0.5)
    rig.runtime.gate.set()
    assert (ahead.result(30), late.result(30)) == ("ahead", "late")


def test_a_job_that_takes_too_long_is_not_told_to_be_a_job():
    ticket = Ticket(cost(4), 0, math.inf, job=True)
    ticket.begin(-1)
    with pytest.raises(Refusal) as caught:
        ticket.progress(1, 4)
    assert caught.value.code == "deadline" and "/v1/jobs" not in str(caught.value)
