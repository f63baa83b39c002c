"""Results on their way to clients that read, and to those that do not."""

import asyncio

import pytest

from serving import sending
from serving.sending import Sent
from serving.settings import ServeSettings
from serving.state import Service

BODY = bytes(range(256)) * 4096  # four parts


def sent(send) -> Service:
    """The service after a result was sent so."""
    service = Service(ServeSettings())
    answer = Sent(BODY, service.sending(BODY), media_type="image/png")
    assert (service.held, service.held_bytes) == (1, len(BODY))
    scope = {"type": "http", "headers": []}
    try:
        asyncio.run(answer(scope, None, send))
    finally:
        assert (service.held, service.held_bytes) == (0, 0)
    return service


def test_a_result_comes_whole_in_parts():
    messages = []

    async def send(message):
        messages.append(message)

    sent(send)
    headers = dict(messages[0]["headers"])
    assert headers[b"content-length"] == str(len(BODY)).encode()
    parts = messages[1:]
    assert b"".join(part["body"] for part in parts) == BODY
    assert [part["more_body"] for part in parts] == [True] * (len(parts) - 1) + [False]


def test_an_empty_result_ends_too():
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(Sent(b"", Service(ServeSettings()).sending(b""))({}, None, send))
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_who_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr(sending, "_PART_S", 0.05)
    count = 0

    async def send(message):
        nonlocal count
        count += 1
        if count > 2:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        sent(send)
