"""A loopback Kubeflow Pipelines API (v2beta1) that keeps state and answers with its own models.

Faults can be ordered: a status to answer with, or silence.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as kfp

_API = "/apis/v2beta1"
_SERIALIZE = kfp.ApiClient().sanitize_for_serialization


class Cluster:
    """What the API keeps.

    Attributes:
        token: what requests must bear, None for nothing.
        faults: (method, regular expression of the path, status, times); status 0 is silence, and a
            negative one does the work and then answers with the status.
        on_run: called in a thread of its own with each new run.
    """

    def __init__(self) -> None:
        self.experiments: dict[str, kfp.V2beta1Experiment] = {}
        self.runs: dict[str, kfp.V2beta1Run] = {}
        self.schedules: dict[str, kfp.V2beta1RecurringRun] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[list[Any]] = []
        self.token: str | None = None
        self.on_run = lambda run: None

    def fault(self, method: str, path: str) -> int | None:
        for fault in self.faults:
            if fault[0] == method and re.search(fault[1], path) and fault[3] > 0:
                fault[3] -= 1
                return fault[2]
        return None

    def finish(self, run_id: str, state: str, message: str = "") -> None:
        run = self.runs[run_id]
        run.finished_at = datetime.now(UTC)
        run.error = kfp.GoogleRpcStatus(code=2, message=message) if message else None
        run.state = state

    def create_run(self, body: dict) -> kfp.V2beta1Run:
        run = kfp.V2beta1Run(
            run_id=str(uuid.uuid4()),
            experiment_id=body["experiment_id"],
            display_name=body["display_name"],
            pipeline_spec=body["pipeline_spec"],
            runtime_config=kfp.V2beta1RuntimeConfig(**body.get("runtime_config") or {}),
            state="PENDING",
            created_at=datetime.now(UTC),
        )
        self.runs[run.run_id] = run
        threading.Thread(target=self.on_run, args=(run,), daemon=True).start()
        return run

    def create_experiment(self, body: dict) -> kfp.V2beta1Experiment:
        made = kfp.V2beta1Experiment(
            experiment_id=str(uuid.uuid4()),
            display_name=body["display_name"],
            namespace=body.get("namespace"),
        )
        return self.experiments.setdefault(made.experiment_id, made)

    def create_schedule(self, body: dict) -> kfp.V2beta1RecurringRun:
        made = kfp.V2beta1RecurringRun(
            recurring_run_id=str(uuid.uuid4()),
            experiment_id=body["experiment_id"],
            display_name=body["display_name"],
            pipeline_spec=body["pipeline_spec"],
            max_concurrency=body["max_concurrency"],
            no_catchup=body["no_catchup"],
        )
        made.trigger = body["trigger"]
        return self.schedules.setdefault(made.recurring_run_id, made)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_DELETE(self):
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(_API)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cluster = self.cluster
        cluster.requests.append((self.command, path))
        if cluster.token and self.headers.get("authorization") != f"Bearer {cluster.token}":
            return self._send(401, {"error": "unauthenticated"})
        fault = cluster.fault(self.command, path)
        if fault == 0:
            time.sleep(3)
            return None
        if fault and fault > 0:
            return self._send(fault, {"error": "ordered"})
        given = json.loads(body) if body else {}
        found = self._route(path, given, parse_qs(parts.query))
        if fault:
            return self._send(-fault, {"error": "ordered, after the work was done"})
        return self._send(200 if found is not None else 404, _SERIALIZE(found) or {})

    def _route(self, path: str, body: dict, query: dict) -> Any:
        cluster, method = self.cluster, self.command
        match method, path.strip("/").split("/"):
            case "GET", ["healthz"]:
                return kfp.V2beta1GetHealthzResponse(multi_user=False)
            case "GET", ["experiments"]:
                listed = list(cluster.experiments.values())
                return kfp.V2beta1ListExperimentsResponse(experiments=listed)
            case "POST", ["experiments"]:
                return cluster.create_experiment(body)
            case "GET", ["runs"]:
                return kfp.V2beta1ListRunsResponse(runs=list(cluster.runs.values()))
            case "POST", ["runs"]:
                return cluster.create_run(body)
            case "GET", ["runs", run_id]:
                return cluster.runs.get(run_id)
            case "POST", ["runs", what] if what.endswith(":terminate"):
                cluster.finish(what.removesuffix(":terminate"), "CANCELED")
                return {}
            case "POST", ["recurringruns"]:
                return cluster.create_schedule(body)
            case "DELETE", ["recurringruns", one]:
                cluster.schedules.pop(one)
                return {}
        return None

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass


@contextmanager
def served(cluster: Cluster):
    """Serve it; yields the address."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
