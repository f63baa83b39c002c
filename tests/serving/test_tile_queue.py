"""Several batches in the model at once, where the model takes them."""

import subprocess
import sys
import threading
import time

import numpy as np

from serving.batching import SharedRuntime, TileQueue
from serving.refusal import Refusal
from serving.scheduler import Speed
from serving.ticket import Cost, Ticket
from tests.serving.fakes import FakeRuntime, until
from tudsr.model.opening import on_cpu

TILE = np.zeros((32, 32, 3), np.float32)
PX = 32 * 32


class Two(FakeRuntime):
    """Takes two at once; says how many there were, and which of its graphs they went through."""

    side_by_side = 2

    def __init__(self, seconds=0.0):
        super().__init__(seconds)
        self.inside, self.most, self.used = 0, 0, []
        self._lock = threading.Lock()

    @property
    def beside(self):
        outer = self

        class Shared:
            def restore_batch(self, images, stage, full_precision=False):
                return outer.run(images, stage, "beside")

        return Shared()

    def restore_batch(self, images, stage, full_precision=False):
        return self.run(images, stage, "whole")

    def run(self, images, stage, graph):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.used.append(graph)
        try:
            return super().restore_batch(images, stage)
        finally:
            with self._lock:
                self.inside -= 1


def ticket() -> Ticket:
    return Ticket(Cost(1, PX, PX), time.monotonic(), time.monotonic() + 60)


def ask(shared: SharedRuntime, count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=shared.restore, args=(TILE, 1)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_as_many_batches_are_computed_at_once_as_the_model_takes():
    runtime = Two(0.005)
    threads = ask(SharedRuntime(TileQueue(PX, Speed()), runtime, ticket()), 12)
    for thread in threads:
        thread.join(30)
    assert runtime.most == 2 and len(runtime.batches) == 12


def test_a_tile_that_is_alone_has_the_whole_processor_and_others_share_it():
    runtime = Two()
    shared = SharedRuntime(TileQueue(PX, Speed()), runtime, ticket())
    shared.restore(TILE, 1)
    shared.restore(TILE, 2)
    assert runtime.used == ["whole", "whole"]
    runtime.gate.clear()
    threads = ask(shared, 1)
    until(lambda: runtime.inside == 1)
    threads += ask(shared, 1)
    until(lambda: runtime.inside == 2)
    runtime.gate.set()
    for thread in threads:
        thread.join(30)
    assert runtime.used[2:] == ["whole", "beside"]
    shared.beside.restore(TILE, 1)
    assert runtime.used[4:] == ["beside"], "a picture of several tiles: the next is on its way"


def test_a_model_that_takes_one_at_a_time_gets_one():
    runtime = Two(0.002)
    runtime.side_by_side = 1
    for thread in ask(SharedRuntime(TileQueue(PX, Speed()), runtime, ticket()), 8):
        thread.join(30)
    assert runtime.most == 1


def test_time_in_which_two_are_computed_counts_once():
    speed, runtime = Speed(), Two(0.05)
    for thread in ask(SharedRuntime(TileQueue(PX, speed), runtime, ticket()), 8):
        thread.join(30)
    assert 0.02 < speed.s_per_px * PX < 0.04, "two at once, 50 ms each: 25 ms a tile"


def test_a_batch_that_fails_leaves_room_for_the_next():
    class Broken(Two):
        def run(self, images, stage, graph):
            if stage == 2:
                raise ValueError("broken")
            return super().run(images, stage, graph)

    shared = SharedRuntime(TileQueue(PX, Speed()), Broken(), ticket())
    for _ in range(5):
        try:
            shared.restore(TILE, 2)
        except ValueError as error:
            assert str(error) == "broken"
        else:
            raise AssertionError("the error was lost")
    np.testing.assert_array_equal(shared.restore(TILE, 1), TILE)


def test_tiles_of_a_stopped_picture_are_not_computed():
    runtime, stopped = FakeRuntime(), ticket()
    tiles = TileQueue(PX, Speed())
    runtime.gate.clear()
    first = ask(SharedRuntime(tiles, runtime, ticket()), 1)
    until(lambda: runtime.entered)
    told: list[str] = []

    def wait_for_a_tile() -> None:
        try:
            SharedRuntime(tiles, runtime, stopped).restore(TILE, 2)
        except Refusal as refusal:
            told.append(refusal.code)

    waiting = threading.Thread(target=wait_for_a_tile)
    waiting.start()
    until(lambda: len(tiles._waiting) == 1)
    stopped.stop(Refusal("client_gone", "gone"))
    runtime.gate.set()
    for thread in (*first, waiting):
        thread.join(30)
    assert told == ["client_gone"] and len(runtime.batches) == 1


def test_a_service_on_a_cpu_holds_no_torch(bundle, inside):
    """It would be half of the service's memory; ``inside`` has made the model's CPU form."""
    program = (
        "import sys, time; from serving.engine import Engine\n"
        "from serving.settings import ServeSettings\n"
        f"engine = Engine(ServeSettings(model={str(bundle)!r}))\n"
        "while not engine.ready: time.sleep(0.05)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout == "False\n") == on_cpu("auto")
