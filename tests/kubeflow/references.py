"""Reads a compiled specification as its protobufs, and checks what they do not: the references."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2


@dataclass(frozen=True)
class Document:
    """Both documents of a specification; ``platform`` by the executor's label."""

    pipeline: pipeline_spec_pb2.PipelineSpec
    platform: dict[str, kubernetes_executor_config_pb2.KubernetesExecutorConfig]

    @property
    def tasks(self):
        return self.pipeline.root.dag.tasks

    def container(self, task: str) -> dict:
        """A task's container, in the JSON form of its protobuf."""
        return self._executors()[self.label(task)]["container"]

    def label(self, task: str) -> str:
        return self.pipeline.components[self.tasks[task].component_ref.name].executor_label

    def kubernetes(self, task: str):
        return self.platform[self.label(task)]

    def _executors(self) -> dict:
        return json_format.MessageToDict(self.pipeline.deployment_spec)["executors"]


def read(spec: dict, platform: dict) -> Document:
    """Parse both; a field that the protobufs do not know is an error."""
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    config = kubernetes_executor_config_pb2.KubernetesExecutorConfig
    parts = {name: json_format.ParseDict(each, config()) for name, each in executors.items()}
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    return Document(parsed, parts)


def read_file(path: Path) -> Document:
    return read(*yaml.safe_load_all(path.read_text("utf-8")))


def dangling(document: Document) -> list[str]:
    """Each reference that leads nowhere, each cycle, and each executor nobody uses."""
    spec, told = document.pipeline, []
    executors = set(document._executors())
    used = {c.executor_label for c in spec.components.values()}
    told += [f"component without executor: {e}" for e in sorted(used - executors)]
    told += [f"executor nobody uses: {e}" for e in sorted(executors - used)]
    told += [f"platform of no executor: {e}" for e in sorted(set(document.platform) - executors)]
    told += [f"executor without platform: {e}" for e in sorted(executors - set(document.platform))]
    roots = set(spec.root.input_definitions.parameters)
    for name, task in document.tasks.items():
        component = spec.components.get(task.component_ref.name)
        if task.component_ref.name not in spec.components:
            told.append(f"{name}: no component {task.component_ref.name}")
            continue
        told += [f"{name}: waits for {d}" for d in task.dependent_tasks if d not in document.tasks]
        wanted = set(component.input_definitions.parameters)
        given = task.inputs.parameters
        told += [f"{name}: no value for {p}" for p in sorted(wanted - set(given))]
        told += [f"{name}: unknown input {p}" for p in sorted(set(given) - wanted)]
        told += [
            f"{name}: no parameter {p.component_input_parameter}"
            for p in given.values()
            if p.component_input_parameter and p.component_input_parameter not in roots
        ]
        told += _placeholders(name, document, wanted)
    return told + _cycles(document)


def _placeholders(name: str, document: Document, inputs: set[str]) -> list[str]:
    container = document._executors().get(document.label(name), {}).get("container", {})
    marks = [a for a in container.get("args", []) if a.startswith("{{$")]
    known = {f"{{{{$.inputs.parameters['{p}']}}}}" for p in inputs}
    return [f"{name}: placeholder {mark}" for mark in marks if mark not in known]


def _cycles(document: Document) -> list[str]:
    done: set[str] = set()
    left = dict(document.tasks)
    while ready := [n for n, t in left.items() if done.issuperset(t.dependent_tasks)]:
        done.update(ready)
        left = {n: t for n, t in left.items() if n not in done}
    return [f"never ready: {n}" for n in sorted(left)]
