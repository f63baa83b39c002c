"""Runs a submitted specification as Kubeflow would, from nothing but Kubeflow's own fields.

It knows tasks, their order, retries, containers, environment, Secrets, claims and deadlines; it
knows nothing of ZenML, of this project or of profiles. A pod is a process in a fresh folder that
holds a copy of the image's files, with no environment but the image's and the specification's.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kubeflow.references import Document, read


@dataclass
class Pod:
    """One attempt: its task, where it ran, and how it ended (minus the signal if by one)."""

    task: str
    attempt: int
    folder: Path
    log: Path
    exit_code: int | None = None


@dataclass
class Executor:
    """A cluster's nodes.

    Attributes:
        image: files of the one image there is.
        image_environment: the environment that the image sets.
        secrets: Kubernetes Secrets by name.
        config_maps: ConfigMaps by name.
        folder: where pods and claims are.
        start: runs a command: (argv, environment, cwd, log, deadline in seconds, on start) to code.
        meddle: called with each pod and its process id when it has started.
    """

    image: Path
    image_environment: dict[str, str]
    secrets: dict[str, dict[str, str]]
    config_maps: dict[str, dict[str, str]]
    folder: Path
    start: Callable[..., int]
    meddle: Callable[[Pod, int], None] = lambda pod, pid: None
    pods: list[Pod] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)

    def run(self, spec: dict, parameters: dict[str, str], run_id: str) -> bool:
        """Walk the tasks in order; whether all succeeded."""
        document = read(spec["pipeline_spec"], spec["platform_spec"])
        left = list(document.tasks)
        self.states = {}
        while left:
            name = next(n for n in left if not set(document.tasks[n].dependent_tasks) & set(left))
            left.remove(name)
            waits = document.tasks[name].dependent_tasks
            if any(self.states[before] != "Succeeded" for before in waits):
                self.states[name] = "Skipped"
                continue
            self.states[name] = self._task(document, name, parameters, run_id)
        return set(self.states.values()) == {"Succeeded"}

    def _task(self, document: Document, name: str, parameters: dict, run_id: str) -> str:
        retries = document.tasks[name].retry_policy.max_retry_count
        inputs = _inputs(document, name, parameters, run_id)
        for attempt in range(1, retries + 2):
            pod = self._pod(document, name, attempt, inputs)
            if pod.exit_code == 0:
                return "Succeeded"
        return "Failed"

    def _pod(self, document: Document, name: str, attempt: int, inputs: dict[str, str]) -> Pod:
        container, told = document.container(name), document.kubernetes(name)
        folder = self.folder / "pods" / f"{len(self.pods):02}-{name}-{attempt}"
        shutil.copytree(self.image, folder / "app", symlinks=True)
        environment = {**self.image_environment, "HOME": str(folder), "HOSTNAME": folder.name}
        environment["PYTHONPATH"] = str(folder / "app")
        environment |= {v["name"]: v.get("value", "") for v in container.get("env", [])}
        for secret in told.secret_as_env:
            held = self.secrets[secret.secret_name]
            environment |= {k.env_var: held[k.secret_key] for k in secret.key_to_env}
        for settings in told.config_map_as_env:
            held = self.config_maps[settings.config_map_name]
            environment |= {k.env_var: held[k.config_map_key] for k in settings.key_to_env}
        for mount in told.pvc_mount:
            self._mount(mount.constant, Path(mount.mount_path))
        argv = [_resolve(part, inputs) for part in [*container["command"], *container["args"]]]
        pod = Pod(name, attempt, folder, folder / "log")
        self.pods.append(pod)
        deadline_s = told.active_deadline_seconds or None

        def on_start(pid: int) -> None:
            threading.Thread(target=self.meddle, args=(pod, pid), daemon=True).start()

        pod.exit_code = self.start(argv, environment, folder / "app", pod.log, deadline_s, on_start)
        return pod

    def _mount(self, claim: str, place: Path) -> None:
        """A claim is a folder; mounting it is a link at the path that the specification names."""
        volume = self.folder / "claims" / claim
        volume.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(volume)


def _inputs(document: Document, name: str, parameters: dict, run_id: str) -> dict[str, str]:
    """A task's input parameters: constants, the run's own, or the pipeline's."""
    defaults = document.pipeline.root.input_definitions.parameters
    known = {key: p.default_value.string_value for key, p in defaults.items()} | parameters
    made: dict[str, Any] = {}
    for key, value in document.tasks[name].inputs.parameters.items():
        constant = value.runtime_value.constant.string_value
        made[key] = constant if constant else known[value.component_input_parameter]
        if constant == "{{$.pipeline_job_uuid}}":
            made[key] = run_id
    return made


def _resolve(part: str, inputs: dict[str, str]) -> str:
    for key, value in inputs.items():
        part = part.replace(f"{{{{$.inputs.parameters['{key}']}}}}", value)
    return part
