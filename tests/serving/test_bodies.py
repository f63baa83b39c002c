"""Bodies on their way in: what is held counts, what is announced does not."""

import asyncio
import threading

import pytest
from starlette.requests import Request

from serving.intake import take
from serving.refusal import Refusal
from serving.settings import ServeSettings
from serving.state import Service
from tests.conftest import scene
from tests.serving.fakes import encoded, error_of, post, until

LIMIT = 2**20


def service() -> Service:
    return Service(ServeSettings(held_bytes=LIMIT, queue=20))


def request(declared: int, *parts: bytes, more: bool = False) -> Request:
    """One that announces ``declared`` bytes and sends ``parts``, and then, with ``more``, waits."""
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

    async def receive():
        if left:
            return left.pop(0)
        if more:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"content-type", b"image/png"), (b"content-length", str(declared).encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/upscale", "headers": headers}
    return Request(scope | {"query_string": b""}, receive)


async def taken(held_by: Service, asking: Request) -> bytes:
    with held_by.holding(asking) as held:
        return (await take(asking, held))[0]


async def beside(held_by: Service, *others: Request, then: Request) -> bytes:
    """``then``'s body while the others wait for the rest of theirs."""
    waiting = [asyncio.ensure_future(taken(held_by, other)) for other in others]
    await asyncio.sleep(0)
    try:
        return await taken(held_by, then)
    finally:
        for task in waiting:
            task.cancel()


def test_clients_that_only_announce_a_body_keep_nobody_out():
    here = service()
    idle = [request(LIMIT, more=True) for _ in range(15)]
    assert asyncio.run(beside(here, *idle, then=request(9, b"a picture"))) == b"a picture"
    assert (here.held, here.held_bytes) == (0, 0)


@pytest.mark.parametrize("declared", [LIMIT // 2, 0])
def test_bodies_that_are_there_do(declared):
    """At once where the length is announced, else as they arrive."""
    here, half = service(), bytes(LIMIT // 2)
    with pytest.raises(Refusal, match="ask again soon") as caught:
        asyncio.run(
            beside(here, request(LIMIT, half, b"x", more=True), then=request(declared, half))
        )
    assert caught.value.code == "queue_full"
    assert (here.held, here.held_bytes) == (0, 0)


def test_one_body_has_room_whatever_its_size():
    assert len(asyncio.run(taken(service(), request(0, *[bytes(LIMIT)] * 2)))) == 2 * LIMIT


def test_results_on_their_way_keep_new_pictures_out():
    here = Service(ServeSettings(sending_bytes=LIMIT))
    with here.sending(LIMIT + 1), pytest.raises(Refusal, match="on their way"):
        asyncio.run(taken(here, request(1, b"x")))
    assert asyncio.run(taken(here, request(1, b"x"))) == b"x"


def test_full_jobs_are_told_before_the_body_is_read(inside, slow, monkeypatch):
    monkeypatch.setattr(inside.jobs.store, "limit", 1)
    slow.gate.clear()
    where = post(inside, encoded(scene(0, 32)), path="/v1/jobs").headers["Location"]
    read = []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        answers.append(message)

    answers: list = []
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": b""}
    scope |= {"headers": [(b"content-length", b"9")], "raw_path": b"/v1/jobs", "server": ("a", 1)}
    asyncio.run(inside.client.app(scope, receive, send))
    assert (answers[0]["status"], read) == (429, [])
    slow.gate.set()
    until(lambda: inside.client.get(where).json()["state"] == "done")


def test_waiting_that_ends_without_work_counts_as_waiting(inside, slow):
    """Else nobody sees an overload in the histogram of waits."""
    text = inside.client.get("/metrics").text
    before = counted(text)
    slow.gate.clear()
    answers: list = []

    def ask():
        answers.append(post(inside, encoded(scene(5, 64)), "?scale=2&deadline_s=0.5"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    slow.gate.set()
    assert {error_of(answer) for answer in answers} == {(504, "deadline")}
    until(lambda: counted(inside.client.get("/metrics").text) == before + 6)


def counted(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("tudsr_queue_seconds_count")]
    return sum(float(line.split()[1]) for line in lines)
