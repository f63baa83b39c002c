"""A Kubernetes API on loopback: discovery, get, list, server-side apply with owners, conflicts and
dry runs, resourceVersions, a token; and a controller that moves rollouts on, a pod at each look."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.k8s.server_side_apply import Conflict, apply

TOKEN = "a-token-that-is-valid"
CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue"}
PLURALS = {"NetworkPolicy": "networkpolicies"}
KINDS = {
    "v1": ["Namespace", "ConfigMap", "Secret", "Service", "PersistentVolumeClaim", "Pod"],
    "apps/v1": ["Deployment", "StatefulSet", "ReplicaSet"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "gateway.networking.k8s.io/v1": ["Gateway", "HTTPRoute"],
    "keda.sh/v1alpha1": ["ScaledObject"],
    "monitoring.coreos.com/v1": ["ServiceMonitor"],
    "kueue.x-k8s.io/v1beta2": ["ResourceFlavor", "ClusterQueue", "LocalQueue"],
}
Key = tuple[str, str, str]  # kind, namespace, name


class Api:
    """The state of the cluster, and how it misbehaves.

    Attributes:
        broken: names of workloads, or versions of the model, whose pods never become ready, to why.
        fault: given method and path, a status to answer with instead; None answers properly.
        delay_s: wait before every answer.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, dict] = {}
        self.kinds = {api: list(kinds) for api, kinds in KINDS.items()}
        self.broken: dict[str, str] = {}
        self.fault: Callable[[str, str], int | None] = lambda *_: None
        self.requests: list[tuple[str, str]] = []
        self.token, self.delay_s, self.version = TOKEN, 0.0, 0
        self.lock = threading.RLock()

    def changes(self) -> list[str]:
        """Which objects were changed, in order, dry runs left out."""
        return [path.rpartition("/")[2] for method, path in self.requests if method == "PATCH"]

    def put(self, manifest: dict) -> None:
        """An object that is simply there, such as a Secret."""
        meta = manifest["metadata"]
        self.objects[manifest["kind"], meta.get("namespace", ""), meta["name"]] = manifest

    def get(self, kind: str, name: str, namespace: str = "tudsr") -> dict:
        return self.objects[kind, "" if kind in CLUSTER_WIDE else namespace, name]

    def applied(self, key: Key, wanted: dict, manager: str, force: bool, dry: bool) -> dict:
        old = self.objects.get(key)
        made = apply(old, wanted, manager, force)
        meta = made["metadata"]
        meta.update({"name": key[2], **({"namespace": key[1]} if key[1] else {})})
        same = old is not None and {**old, "status": 0} == {**made, "status": 0}
        if not same:
            moved = old is None or old.get("spec") != made.get("spec")
            meta["generation"] = meta.get("generation", 0) + moved
            meta["resourceVersion"] = str(self.version + 1)
        if dry:
            return made
        if not same:
            self.version += 1
            self.objects[key] = made
        return made

    def look(self, key: Key) -> dict | None:
        """An object as it is now; a rollout that can moves on by one pod."""
        one = self.objects.get(key)
        if one is not None and key[0] in {"Deployment", "StatefulSet"}:
            self._move_on(one, key)
        return copy.deepcopy(one)

    def _move_on(self, one: dict, key: Key) -> None:
        wanted, generation = one["spec"].get("replicas", 1), one["metadata"]["generation"]
        status = one.setdefault("status", {})
        if status.get("observedGeneration") != generation:
            status.update(observedGeneration=generation, updatedReplicas=0)
            return  # the first look after a change finds the controller just waking up
        why = self._why_broken(one, key[2])
        ready = status.get("updatedReplicas", 0)
        ready = min(wanted, ready + 1) if not why else 0
        status.update(updatedReplicas=ready, availableReplicas=ready)
        status["replicas"] = wanted
        if why == "ProgressDeadlineExceeded":
            status["conditions"] = [
                {"type": "Progressing", "status": "False", "reason": why, "message": "too slow"}
            ]

    def _why_broken(self, one: dict, name: str) -> str:
        inside = one["spec"]["template"]["spec"]["containers"][0]
        version = {e["name"]: e.get("value") for e in inside.get("env", [])}.get("TUDSR_MODEL")
        wanted = one["spec"].get("replicas", 1)
        return (self.broken.get(name) or self.broken.get(version or "", "")) if wanted else ""

    def pods(self, namespace: str, labels: dict[str, str]) -> list[dict]:
        """A pod for each broken workload that these labels are of."""
        found = []
        for (kind, space, name), one in self.objects.items():
            if kind not in {"Deployment", "StatefulSet"} or space != namespace:
                continue
            own = one["spec"]["template"]["metadata"]["labels"]
            why = self._why_broken(one, name)
            if labels.items() <= own.items() and why and why != "ProgressDeadlineExceeded":
                state = {"waiting": {"reason": why, "message": "as the test wants it"}}
                found.append(
                    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-0"},
                     "status": {"containerStatuses": [{"name": "serve", "state": state}]}}
                )  # fmt: skip
        return found


class Handler(BaseHTTPRequestHandler):
    """HTTP around ``Api``."""

    api: Api
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.api.lock:
            if not self._refused():
                self._answer(*self._read())

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.api.lock:
            if self._refused():
                return
            if self.headers["Content-Type"] != "application/apply-patch+yaml":
                self._answer(415, _status(415, "only server-side apply is known here"))
                return
            self._answer(*self._apply(yaml.safe_load(body)))

    def _refused(self) -> bool:
        time.sleep(self.api.delay_s)
        if self.headers.get("Authorization") != f"Bearer {self.api.token}":
            self._answer(401, _status(401, "Unauthorized"))
            return True
        status = self.api.fault(self.command, urlsplit(self.path).path)
        if status is not None:
            self._answer(status, _status(status, "as the test wants it"))
        return status is not None

    def _read(self) -> tuple[int, dict]:
        path, query = urlsplit(self.path).path.strip("/").split("/"), self._query()
        self.api.requests.append(("GET", self.path))
        if path in (["version"], ["api"], ["apis"]):
            return 200, self._discovery(path[0])
        if len(path) in (2, 3) and path[0] in {"api", "apis"}:
            return self._resources("/".join(path[1:]))
        kind, namespace, name = self._locate(path)
        if name:
            found = self.api.look((kind, namespace, name))
            return (200, found) if found else (404, _status(404, f"{kind} {name} not found"))
        labels = dict(p.split("=") for p in query.get("labelSelector", "").split(",") if p)
        items = self.api.pods(namespace, labels) if kind == "Pod" else []
        return 200, {"apiVersion": "v1", "kind": f"{kind}List", "metadata": {}, "items": items}

    def _apply(self, wanted: dict) -> tuple[int, dict]:
        path, query = urlsplit(self.path).path.strip("/").split("/"), self._query()
        dry = query.get("dryRun") == "All"
        key = self._locate(path)
        if not dry:
            self.api.requests.append(("PATCH", urlsplit(self.path).path))
        namespace = key[1]
        if namespace and ("Namespace", "", namespace) not in self.api.objects:
            return 404, _status(404, f'namespaces "{namespace}" not found')
        try:
            force = query.get("force") == "true"
            return 200, self.api.applied(key, wanted, query["fieldManager"], force, dry)
        except Conflict as conflict:
            causes = [
                {"reason": "FieldManagerConflict", "message": f'conflict with "{who}"',
                 "field": "".join("." + p[2:] if p[0] == "f" else f"[{p[2:]}]" for p in at)}
                for who, at in conflict.causes
            ]  # fmt: skip
            said = _status(409, "Apply failed with conflicts")
            return 409, {**said, "details": {"causes": causes}}

    def _locate(self, path: list[str]) -> Key:
        rest = path[2:] if path[0] == "api" else path[3:]
        if rest[0] == "namespaces" and len(rest) > 2:
            return self._kind(rest[2]), rest[1], rest[3] if len(rest) > 3 else ""
        return self._kind(rest[0]), "", rest[1] if len(rest) > 1 else ""

    def _kind(self, plural: str) -> str:
        return next(k for kinds in self.api.kinds.values() for k in kinds if _plural(k) == plural)

    def _discovery(self, what: str) -> dict:
        if what == "version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        if what == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        named = [api for api in self.api.kinds if "/" in api]
        versions = [{"groupVersion": api, "version": api.split("/")[1]} for api in named]
        groups = [
            {"name": v["groupVersion"].split("/")[0], "versions": [v], "preferredVersion": v}
            for v in versions
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _resources(self, api: str) -> tuple[int, dict]:
        if api not in self.api.kinds:
            return 404, _status(404, f"no API {api}")
        listed = [
            {"name": _plural(kind), "singularName": kind.lower(), "kind": kind,
             "namespaced": kind not in CLUSTER_WIDE, "verbs": ["get", "list", "patch"]}
            for kind in self.api.kinds[api]
        ]  # fmt: skip
        return 200, {"kind": "APIResourceList", "groupVersion": api, "resources": listed}

    def _query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}

    def _answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except BrokenPipeError:
            pass  # the client's patience was shorter than the test's delay


def serve(api: Api) -> ThreadingHTTPServer:
    """Start the server on a free port."""
    handler = type("Bound", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def write_kubeconfig(path: Path, port: int, token: str = TOKEN) -> Path:
    """A kubeconfig for the server."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "loopback",
        "clusters": [{"name": "loopback", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "me"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))
    return path


def _plural(kind: str) -> str:
    return PLURALS.get(kind, kind.lower() + "s")


def _status(code: int, message: str) -> dict:
    said = {"status": "Failure", "code": code, "message": message}
    return {"kind": "Status", "apiVersion": "v1", **said}
