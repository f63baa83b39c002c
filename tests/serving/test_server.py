"""The service as a process: BentoML's routes, the attacks on them, and how it ends."""

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

import psutil
import pytest

from tests.conftest import scene
from tests.serving.conftest import Server
from tests.serving.fakes import encoded, until


def ask(server, path, body: bytes | None = None, kind="image/png", method=None, timeout=120):
    """(status, headers, body)"""
    headers = {"Content-Type": kind} if body is not None else {}
    request = urllib.request.Request(server.url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_health_metrics_page_and_description_are_there(server):
    assert ask(server, "/livez")[0] == ask(server, "/readyz")[0] == 200
    assert b"Drop a picture here" in ask(server, "/")[2]
    assert json.loads(ask(server, "/openapi.json")[2])["openapi"] == "3.1.0"
    counters = (
        'tudsr_requests_total{route="/v1/upscale",status="200"}',
        'tudsr_refusals_total{reason="bad_setting"}',
        'tudsr_queue_seconds_count{size="s"}',
        'tudsr_compute_seconds_count{size="s"}',
        'tudsr_request_seconds_count{route="other"}',
    )
    before = _metrics(server)
    ask(server, "/v1/upscale?scale=2", encoded(scene(1, 24)))
    ask(server, "/v1/upscale?scale=99", encoded(scene(1, 24)))
    ask(server, "/no/such/address")
    after = _metrics(server)
    for name in counters:
        assert after[name] == before.get(name, 0) + 1, name
    told = ask(server, "/metrics")[2].decode()
    assert "bentoml" not in told, "its figures have a label for every path ever asked for"
    assert "tudsr_queue_tiles 0.0" in told
    assert 'tudsr_model_info{bundle="' in told
    assert float(told.split("\ntudsr_memory_bytes ")[1].split()[0]) > 1e8


def _metrics(server) -> dict[str, float]:
    """Each figure; other tests may have used the server before."""
    lines = ask(server, "/metrics")[2].decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/info"])
def test_what_bentoml_answers_is_described_too(server, path):
    described = json.loads(ask(server, "/openapi.json")[2])
    answers = described["paths"][path]["get"]["responses"]
    status, headers, _ = ask(server, path)
    assert headers.get_content_type() in answers[str(status)]["content"]
    assert "503" in answers or path in ("/livez", "/metrics")


def test_it_is_ready_only_when_the_warm_up_has_run(bundle, tmp_path):
    command = [sys.executable, "-m", "tudsr", "serve", "--model", str(bundle)]
    # Not entered: that would wait until it is ready.
    starting = Server(command, tmp_path / "log", TUDSR_SERVE_STATE=str(tmp_path / "state"))
    seen, early = [], None
    try:
        until(lambda: _answers(starting), 240)
        while not seen or seen[-1] != 200:
            seen.append(ask(starting, "/readyz")[0])
            early = early or ask(starting, "/v1/upscale", encoded(scene(1, 24)))
            time.sleep(0.2)
        told = ask(starting, "/metrics")[2].decode()
    finally:
        starting.__exit__()
    assert set(seen[:-1]) == {503}
    assert (early[0], json.loads(early[2])["error"]["code"]) == (503, "model_unavailable")
    assert early[1]["Retry-After"] == "5"
    for stage in (1, 2):
        assert f'tudsr_tiles_total{{stage="{stage}"}} 1.0' in told, "a picture through both"


def _answers(server) -> bool:
    try:
        return ask(server, "/livez", timeout=5)[0] == 200
    except OSError:
        return False


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "kind", ["application/vnd.bentoml+pickle", "application/octet-stream", "image/png"]
)
@pytest.mark.parametrize("path", ["/v1/upscale", "/v1/jobs", "/", "/schema.json", "/tudsr"])
def test_a_pickled_body_is_never_unpickled(server, tmp_path, kind, path):
    import pickle

    trap = tmp_path / "executed"
    status, _, _ = ask(server, path, pickle.dumps(Bomb(trap)), kind)
    assert status in (202, 404, 405, 415)
    assert not trap.exists()


def test_an_address_in_a_form_is_not_fetched(server, tmp_path):
    import http.server

    asked = []

    class Inner(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encoded(scene(1, 24)))

    inner = http.server.HTTPServer(("127.0.0.1", 0), Inner)
    threading.Thread(target=inner.serve_forever, daemon=True).start()
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(scene(1, 24)))
    for url in (f"http://127.0.0.1:{inner.server_port}/metadata", f"file://{secret}", str(secret)):
        for name in ('name="image"', 'name="image"; filename="a.png"'):
            edge = uuid.uuid4().hex
            head = f"--{edge}\r\nContent-Disposition: form-data; {name}\r\n\r\n"
            body = f"{head}{url}\r\n--{edge}--\r\n".encode()
            kind = f"multipart/form-data; boundary={edge}"
            assert ask(server, "/v1/upscale", body, kind)[0] in (415, 422)
    inner.shutdown()
    assert asked == []


def test_sigterm_finishes_what_runs_and_a_restart_goes_on_with_the_jobs(bundle, tmp_path):
    command = [sys.executable, "-m", "tudsr", "serve", "--model", str(bundle)]
    state = {"TUDSR_SERVE_STATE": str(tmp_path / "state"), "TUDSR_SERVE_GRACE_S": "20"}
    answers = []
    with Server(command, tmp_path / "log", **state) as first:
        done = json.loads(ask(first, "/v1/jobs?scale=2", encoded(scene(1, 24)))[2])["id"]
        until(lambda: json.loads(ask(first, f"/v1/jobs/{done}")[2])["state"] == "done")
        small = encoded(scene(2, 120))
        asking = threading.Thread(target=lambda: answers.append(ask(first, "/v1/upscale", small)))
        asking.start()
        long = [json.loads(ask(first, "/v1/jobs?scale=8", encoded(scene(3, 90)))[2])["id"]
                for _ in range(3)]  # fmt: skip
        until(lambda: b"} 1.0" in ask(first, "/metrics")[2])
        time.sleep(0.3)
        os.killpg(first.process.pid, signal.SIGTERM)
        asking.join(60)
        assert first.process.wait(60) is not None
    assert [status for status, *_ in answers] == [200], "what was begun was finished"
    with Server(command, tmp_path / "log2", **state) as second:
        assert ask(second, f"/v1/jobs/{done}/result")[0] == 200
        for job in long:
            until(lambda j=job: json.loads(ask(second, f"/v1/jobs/{j}")[2])["state"] == "done", 90)
            assert ask(second, f"/v1/jobs/{job}/result")[0] == 200


def _to_both(parent: int, signum: int) -> None:
    """The parent passes it on to its worker, which then gets it twice."""
    for process in [*psutil.Process(parent).children(), psutil.Process(parent)]:
        process.send_signal(signum)


@pytest.mark.parametrize("send", [os.kill, _to_both])
def test_while_it_ends_it_answers_at_once_and_finishes_what_runs(bundle, tmp_path, send):
    command = [sys.executable, "-m", "tudsr", "serve", "--model", str(bundle)]
    settings = {"TUDSR_SERVE_STATE": str(tmp_path / "state"), "TUDSR_SERVE_GRACE_S": "400"}
    answers, small = [], encoded(scene(1, 24))

    def slow():
        answers.append(ask(ending, "/v1/upscale?scale=8", encoded(scene(2, 400))))

    with Server(command, tmp_path / "log", **settings) as ending:
        done = json.loads(ask(ending, "/v1/jobs?scale=2", small)[2])["id"]
        until(lambda: json.loads(ask(ending, f"/v1/jobs/{done}")[2])["state"] == "done")
        asking = threading.Thread(target=slow)
        asking.start()
        until(lambda: b"tudsr_queue_tiles 0.0" not in ask(ending, "/metrics")[2])
        send(ending.process.pid, signal.SIGTERM)
        until(lambda: ask(ending, "/readyz", timeout=3)[0] == 503)
        for path in ("/v1/upscale", "/v1/jobs"):
            status, headers, body = ask(ending, path, small, timeout=3)
            assert (status, json.loads(body)["error"]["code"]) == (503, "draining")
            assert headers["Retry-After"] == "5"
        assert ask(ending, "/livez", timeout=3)[0] == 200
        assert ask(ending, f"/v1/jobs/{done}/result", timeout=3)[0] == 200
        assert not answers, "it was too quick for this test"
        asking.join(120)
        assert ending.process.wait(60) is not None, "it sits the grace out with nothing to do"
    assert [status for status, *_ in answers] == [200]
