"""Results on their way to clients that read, and to those that do not."""

import asyncio
import io
import os
import socket
import tempfile
import threading

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from serving import sending
from serving.sending import Sent, result_file
from serving.settings import ServeSettings
from serving.state import Service
from tests.serving.conftest import free_port
from tests.serving.fakes import until

BODY = bytes(range(256)) * 4096  # four parts


def sent(send) -> None:
    """Send it so; it is counted meanwhile and not afterwards."""
    service = Service(ServeSettings())
    file = io.BytesIO(BODY)
    answer = Sent(file, service.sending, media_type="image/png")

    async def counted(message) -> None:
        assert (service.held, service.sending_bytes) == (1, len(BODY))
        await send(message)

    try:
        asyncio.run(answer({"type": "http", "headers": []}, None, counted))
    finally:
        assert (service.held, service.sending_bytes, file.closed) == (0, 0, True)


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

    asyncio.run(Sent(io.BytesIO(), Service(ServeSettings()).sending)({}, None, send))
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_who_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr(sending, "_BEHIND_S", 0.05)
    count = 0

    async def send(message):
        nonlocal count
        count += 1
        if count > 2:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        sent(send)


def test_who_reads_hardly_is_cut_off_however_large_the_result(monkeypatch):
    """Each part in time, all at a crawl: a few readers could hold gigabytes for hours."""
    monkeypatch.setattr(sending, "_BEHIND_S", 0.2)
    monkeypatch.setattr(sending, "_LEAST_BYTES_S", 2**30)
    parts = 0

    async def send(message):
        nonlocal parts
        parts += 1
        await asyncio.sleep(0.12)

    with pytest.raises(TimeoutError):
        sent(send)
    assert 1 < parts < 5


def test_a_large_result_goes_to_the_disk_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with result_file() as small, result_file() as large:
        small.write(bytes(2**20))
        large.write(bytes(9 * 2**20))
        assert isinstance(small._file, io.BytesIO)
        assert os.fstat(large.fileno()).st_size == 9 * 2**20
    assert list(tmp_path.iterdir()) == []


def test_a_real_server_notices_who_does_not_read(monkeypatch):
    """By a socket that asks and then never reads: more than any buffer between them holds."""
    monkeypatch.setattr(sending, "_BEHIND_S", 0.5)
    service, large = Service(ServeSettings()), bytes(64 * 2**20)

    async def result(request):
        return Sent(io.BytesIO(large), service.sending)

    port = free_port()
    app = Starlette(routes=[Route("/", result)])
    web = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    until(lambda: web.started)
    try:
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            until(lambda: service.sending_bytes == len(large))
            until(lambda: service.sending_bytes == 0)
    finally:
        web.should_exit = True
        thread.join(20)
