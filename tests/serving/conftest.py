"""The service on a bundle with random weights: in this process, and as a real BentoML server."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.app import make_app
from serving.engine import Engine
from serving.guard import around
from serving.job_runner import JobRunner
from serving.jobs import JobStore
from serving.settings import ServeSettings
from serving.state import Service
from tests.browser import browser
from tests.serving.fakes import FakeRuntime, until

ROOT = Path(__file__).resolve().parents[2]
START_S = 500


class Server:
    """A server process that answers under ``url``."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = log
        port = self.url.rsplit(":", 1)[1]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--port", port],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> "Server":
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.3)
        self.__exit__()
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text("utf-8"))
        raise AssertionError(f"the server did not start:\n{text[-3000:]}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class InProcess:
    """The whole service but BentoML's process around it, for tests that look inside."""

    def __init__(self, bundle: Path, state: Path, **settings) -> None:
        self.settings = ServeSettings(model=str(bundle), device="cpu", state=state, **settings)
        self.service = Service(self.settings)
        how = self.settings
        store = JobStore(state, how.max_jobs, how.jobs_bytes, how.jobs_keep_s)
        self.engine = self.service.engine = Engine(how)
        self.jobs = self.service.jobs = JobRunner(self.engine, store)
        self.jobs.start()
        app: Any = make_app(self.service)
        for middleware, options in reversed(around(how)):
            app = middleware(app, **options)
        self.client = TestClient(app)
        deadline = time.monotonic() + START_S
        while not self.engine.ready and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self) -> None:
        self.engine.scheduler.drain(0)
        self.jobs.close()


@pytest.fixture(scope="session")
def inside(bundle, tmp_path_factory):
    """One service in this process, with small limits."""
    state = tmp_path_factory.mktemp("state")
    made = InProcess(
        bundle, state, max_upload_bytes=400_000, max_output_px=2_000_000, queue=16, slots=3
    )
    yield made
    made.close()


@pytest.fixture
def slow(inside, monkeypatch):
    """The model replaced by a fake one whose gate a test can close."""
    fake = FakeRuntime()
    model = inside.engine._model
    monkeypatch.setattr(inside.engine, "_model", replace(model, runtime=fake))
    yield fake
    fake.gate.set()
    until(lambda: not inside.engine.scheduler._tickets())


@pytest.fixture(scope="session")
def server(bundle, tmp_path_factory):
    """``TUDSR_MODEL=BUNDLE tudsr serve``."""
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "tudsr", "serve"]
    where = {"TUDSR_MODEL": str(bundle), "TUDSR_SERVE_STATE": str(folder / "state")}
    with Server(command, folder / "log", **where) as running:
        yield running


@pytest.fixture(scope="module")
def page(server):
    """The page in a real browser."""
    with browser() as driver:
        driver.get(server.url)
        yield driver
