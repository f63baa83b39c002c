"""The Python client against the real server, and against one that is full at first."""

import http.server
import io
import json
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from tests.conftest import scene
from tests.serving.fakes import encoded
from tudsr.client import Client, ServiceError, _Answer


def test_a_token_goes_with_every_request():
    asked = []

    class Guarded(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"id": "a", "state": "done"}')

        def log_message(self, *_):
            pass

    there = http.server.HTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=there.serve_forever, daemon=True).start()
    client = Client(f"http://127.0.0.1:{there.server_port}", token="secret")
    client.info()
    client.job("a")
    there.shutdown()
    assert asked == ["Bearer secret"] * 2


def test_a_picture_a_job_and_a_refusal(server, tmp_path):
    client = Client(server.url)
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(scene(1, 24)))
    made = client.upscale(photo, scale=2, format="webp")
    assert (made.size, made.media_type) == ((48, 48), "image/webp")
    assert Image.open(io.BytesIO(made.data)).size == (48, 48)
    assert client.info()["bundle"][:12] in made.model
    assert (made.seed, made.remade_tiles) == (None, 0)
    seen = []
    job = client.submit(photo.read_bytes(), width=60)
    assert client.wait(job, seen.append).size == (60, 60)
    client.delete(job)
    with pytest.raises(ServiceError) as caught:
        client.job(job)
    assert (caught.value.status, caught.value.code) == (404, "no_such_job")
    with pytest.raises(ServiceError, match="did you mean scale") as caught:
        client.upscale(photo, sclae=2)
    assert (caught.value.status, caught.value.code) == (422, "bad_setting")
    broken = client.submit(photo.read_bytes()[:300])
    with pytest.raises(ServiceError, match="damaged") as caught:
        client.wait(broken)
    assert caught.value.code == "truncated"


@pytest.fixture
def full():
    """Refuses twice, answers then; ``asked`` has the times."""
    asked = []

    class Full(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(time.monotonic())
            status = 503 if len(asked) == 1 else 429 if len(asked) == 2 else 200
            told = {"error": {"code": "queue_full", "message": "full"}}
            self.send_response(status)
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(json.dumps(told if status > 200 else {"model": "m"}).encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Full)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked = asked
    yield server
    server.shutdown()


def test_a_full_service_is_asked_again_when_it_says(full):
    assert Client(f"http://127.0.0.1:{full.server_port}").info() == {"model": "m"}
    assert len(full.asked) == 3
    assert full.asked[2] - full.asked[0] >= 2


def test_patience_ends(full):
    with pytest.raises(ServiceError) as caught:
        Client(f"http://127.0.0.1:{full.server_port}", patience_s=0.5).info()
    assert (caught.value.code, caught.value.retry_after_s) == ("queue_full", 1)
    assert len(full.asked) == 1


@pytest.mark.parametrize("method", ["info", "job"])
def test_a_service_that_is_started_anew_is_waited_for(monkeypatch, method):
    """It says that it is stopping, or a job of ours is there: then nothing answers for a while."""
    monkeypatch.setattr("tudsr.client._RESTART_S", 0.01)
    silent = ServiceError("unreachable", "does not answer")
    draining = ServiceError("draining", "is being stopped", 503, 0.01)
    before = [draining] if method == "info" else []
    answers = [*before, silent, silent, b'{"id": "a", "state": "done", "model": "m"}']

    def ask_once(*_):
        answer = answers.pop(0)
        if isinstance(answer, ServiceError):
            raise answer
        return _Answer(answer, {})

    client = Client()
    monkeypatch.setattr(client, "_ask_once", ask_once)
    told = client.info()["model"] if method == "info" else client.job("a").state
    assert told == ("m" if method == "info" else "done") and not answers


def test_nobody_there_is_one_sentence():
    with pytest.raises(ServiceError, match="is the service running") as caught:
        Client("http://127.0.0.1:9").info()
    assert caught.value.code == "unreachable"
    with pytest.raises(ServiceError, match="is no address"):
        Client("file:///etc/passwd")


def test_it_needs_nothing_heavy():
    code = (
        "import sys, tudsr.client\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'pydantic', 'httpx'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
