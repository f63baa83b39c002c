"""`tudsr base import OWNER/NAME` over HTTP, from a loopback server that speaks as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL, COMMIT = "someone/tiny-diffusion", "0123456789abcdef0123456789abcdef01234567"

pytestmark = pytest.mark.slow


class Hub(BaseHTTPRequestHandler):
    """The revision's listing, and files by HEAD and GET; asked for are noted in ``asked``."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        api, place = f"/api/models/{MODEL}/", self.path.partition("?")[0]
        if place in (f"{api}revision/fp16", f"{api}revision/{COMMIT}"):
            return self._answer(json.dumps({"id": MODEL, "sha": COMMIT}).encode())
        if place == f"{api}tree/{COMMIT}":
            files = [p for p in sorted(self.root.rglob("*")) if p.is_file()]
            return self._answer(json.dumps([self._listed(file) for file in files]).encode())
        file = self.root / self.path.removeprefix(f"/{MODEL}/resolve/{COMMIT}/")
        if self.path.startswith(f"/{MODEL}/resolve/{COMMIT}/") and file.is_file():
            return self._answer(file.read_bytes())
        known = self.path.startswith(api)
        return self._answer(b"{}", 404, "RevisionNotFound" if known else "RepoNotFound")

    do_HEAD = do_GET

    def _listed(self, file: Path) -> dict[str, object]:
        name, size = file.relative_to(self.root).as_posix(), file.stat().st_size
        return {"type": "file", "path": name, "size": size, "oid": "0" * 40}

    def _answer(self, body: bytes, status: int = 200, error: str = "") -> None:
        self.send_response(status)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        for name, value in {**headers, "X-Error-Code": error}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub(sd_source) -> Iterator[ThreadingHTTPServer]:
    Hub.root, Hub.asked = sd_source, []
    (sd_source / "v2-1_512.ckpt").write_bytes(b"a pickle that nobody asks for")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def imported(hub, folder: Path, model: str, revision: str) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0"}
    settings |= {"HF_HOME": str(folder / "hf"), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    command = ["-m", "tudsr", "base", "import", model, str(folder / "base"), "--revision", revision]
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_model_of_the_hub_is_fetched_checked_and_recorded_at_its_commit(hub, tmp_path):
    done = imported(hub, tmp_path, MODEL, "fp16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"from {MODEL} at {COMMIT}" in done.stdout
    recorded = json.loads((tmp_path / "base" / "base.json").read_text("utf-8"))
    assert (recorded["source"], recorded["revision"]) == (MODEL, COMMIT)
    assert recorded["requested_revision"] == "fp16"
    for name in ("unet/diffusion_pytorch_model.safetensors", "vae/config.json"):
        content = (Hub.root / name).read_bytes()
        assert (tmp_path / "base" / name).read_bytes() == content
        assert recorded["files"][name] == hashlib.sha256(content).hexdigest()
    fetched = [a for a in Hub.asked if a.startswith("GET") and "/resolve/" in a]
    assert not any("ckpt" in file for file in fetched)
    weights = [file.endswith(".safetensors") for file in fetched]
    assert weights == sorted(weights) and sum(weights) == 3, "configurations come before weights"


@pytest.mark.parametrize(
    ("model", "revision", "words"),
    [(MODEL, "nowhere", "nowhere"), ("someone/else", "fp16", "the hub has no such model")],
)
def test_what_the_hub_does_not_have(hub, tmp_path, model, revision, words):
    done = imported(hub, tmp_path, model, revision)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and f"cannot fetch {model} at revision {revision}" in said, said
    assert words in said.partition("from the hub:")[2] and "Traceback" not in said
    assert not (tmp_path / "base").exists()
