"""Real servers on loopback: ZenML's, MLflow's and S3 (moto)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_S = 240
_PASSWORD = "only-on-loopback"


@dataclass(frozen=True)
class Stores:
    """Addresses, and what the Secrets and ConfigMaps of a cluster would hold."""

    zenml: str
    api_key: str
    mlflow: str
    s3: str

    @property
    def secrets(self) -> dict[str, dict[str, str]]:
        zenml = {"ZENML_STORE_URL": self.zenml, "ZENML_STORE_API_KEY": self.api_key}
        return {"tudsr-zenml": zenml, "tudsr-stores": keys()}

    @property
    def config_maps(self) -> dict[str, dict[str, str]]:
        return {
            "tudsr-settings": {
                "AWS_ENDPOINT_URL": self.s3,
                "AWS_DEFAULT_REGION": "us-east-1",
                "MLFLOW_TRACKING_URI": self.mlflow,
                "TUDSR_DVC_REMOTE": "s3://dvc/store",
            }
        }


def keys() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "loopback"}


@contextmanager
def stores(folder: Path):
    """All three, started side by side."""
    from moto.server import ThreadedMotoServer

    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=_free_port(), verbose=False)
    s3.start()
    address = f"http://127.0.0.1:{s3.get_host_and_port()[1]}"
    zenml, mlflow = _zenml(folder / "zenml-server"), _mlflow(folder / "mlflow")
    try:
        for server in (zenml, mlflow):
            server.wait()
        yield Stores(zenml.url, _service_account(zenml.url), mlflow.url, address)
    finally:
        for server in (zenml, mlflow):
            server.stop()
        s3.stop()


class _Server:
    def __init__(self, command: list[str], port: int, folder: Path, **environment: str):
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment},
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> None:
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).read()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise RuntimeError(Path(self._log.name).read_text("utf-8")[-3000:])

    def stop(self) -> None:
        """End the whole group: MLflow's server has processes of its own."""
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(15)
        self._log.close()


def _zenml(folder: Path) -> _Server:
    folder.mkdir(parents=True)
    port = _free_port()
    command = ["uvicorn", "zenml.zen_server.zen_server_api:app", "--port", str(port)]
    return _Server(
        command,
        port,
        folder,
        ZENML_CONFIG_PATH=str(folder),
        ZENML_SERVER_AUTO_ACTIVATE="true",
        ZENML_SERVER_DEPLOYMENT_TYPE="other",
        ZENML_DEFAULT_USER_NAME="default",
        ZENML_DEFAULT_USER_PASSWORD=_PASSWORD,
    )


def _mlflow(folder: Path) -> _Server:
    folder.mkdir(parents=True)
    port = _free_port()
    command = ["mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    return _Server(command, port, folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")


def _service_account(url: str) -> str:
    """An API key such as an administrator makes for the steps."""

    def post(path: str, body: bytes, kind: str, token: str = "") -> dict:
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{url}/api/v1/{path}", body, headers)
        return json.load(urllib.request.urlopen(request, timeout=60))

    form = urllib.parse.urlencode({"username": "default", "password": _PASSWORD}).encode()
    token = post("login", form, "application/x-www-form-urlencoded")["access_token"]
    account = json.dumps({"name": "tudsr", "active": True}).encode()
    made = post("service_accounts", account, "application/json", token)
    key = json.dumps({"name": "steps"}).encode()
    path = f"service_accounts/{made['id']}/api_keys"
    return post(path, key, "application/json", token)["body"]["key"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
