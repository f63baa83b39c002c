"""Selectors find what they are meant to find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.lint.finding import Finding
from deploy.lint.pods import named_ports
from deploy.manifests import Manifest, containers, label, pod_templates

_OTHERS = "tudsr.dev/pods-of"
"""Annotation of a policy for pods that somebody else makes here: says who."""


def matches(selector: Manifest, labels: Manifest) -> bool:
    """Whether a label selector finds these labels; an empty one finds all."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or [])


def templates(objects: Sequence[Manifest]) -> list[Manifest]:
    """All pod templates."""
    return [template for one in objects for _, template in pod_templates(one)]


def labels_of(template: Manifest) -> Manifest:
    """A template's labels."""
    return template.get("metadata", {}).get("labels", {})


def own_labels(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """A workload's selector, and its spread's, find its own pods."""
    for one in objects:
        for where, template in pod_templates(one):
            labels = labels_of(template)
            selector = one["spec"].get("selector")
            if one["kind"] in {"Deployment", "StatefulSet"} and not (
                selector and matches(selector, labels)
            ):
                yield Finding(where, "own labels", f"selector does not find its pods' {labels}")
            for spread in template["spec"].get("topologySpreadConstraints", []):
                if not matches(spread.get("labelSelector", {}), labels):
                    yield Finding(
                        where, "own labels", "topologySpread counts other pods than its own"
                    )


def services(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """A Service finds pods, and its target ports are theirs."""
    for one in objects:
        if one["kind"] != "Service" or not one["spec"].get("selector"):
            continue
        selector = {"matchLabels": one["spec"]["selector"]}
        found = [t for t in templates(objects) if matches(selector, labels_of(t))]
        if not found:
            yield Finding(
                label(one), "services", f"selector {one['spec']['selector']} finds no pod"
            )
        for port in one["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if any(target not in _ports(t) for t in found):
                yield Finding(
                    label(one), "services", f"target port {target!r} is none of its pods'"
                )


def budgets(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """A PodDisruptionBudget finds pods, and lets some of them go."""
    for one in objects:
        if one["kind"] != "PodDisruptionBudget":
            continue
        spec = one["spec"]
        if not any(matches(spec["selector"], labels_of(t)) for t in templates(objects)):
            yield Finding(label(one), "budgets", "selector finds no pod")
        if str(spec.get("maxUnavailable")) in {"0", "0%"} or spec.get("minAvailable") == "100%":
            yield Finding(label(one), "budgets", "lets no pod go: nodes could never be drained")


def policies(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """A NetworkPolicy's selectors find pods here, and its port names are theirs."""
    everything = templates(objects)
    for one in objects:
        if one["kind"] != "NetworkPolicy":
            continue
        spec = one["spec"]
        own = [t for t in everything if matches(spec["podSelector"], labels_of(t))]
        if not own and _OTHERS not in one["metadata"].get("annotations", {}):
            yield Finding(label(one), "policies", "podSelector finds no pod")
        for rule in spec.get("ingress") or []:
            yield from _rule(one, rule, rule.get("from", []), own, everything)
        for rule in spec.get("egress") or []:
            yield from _rule(one, rule, rule.get("to", []), None, everything)


def scalers(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """What scales names a workload that is there and does not set its own replicas."""
    workloads = {(o["kind"], o["metadata"]["name"]): o for o in objects if any(pod_templates(o))}
    for one in objects:
        if one["kind"] not in {"ScaledObject", "HorizontalPodAutoscaler"}:
            continue
        target = one["spec"]["scaleTargetRef"]
        found = workloads.get((target.get("kind", "Deployment"), target["name"]))
        if found is None:
            yield Finding(label(one), "scalers", f"{target['name']} is not there")
        elif "replicas" in found["spec"]:
            yield Finding(
                label(one),
                "scalers",
                f"{label(found)} sets replicas itself: each apply would undo the scaling",
            )


def _rule(
    policy: Manifest,
    rule: Manifest,
    peers: Sequence[Manifest],
    asked: list[Manifest] | None,
    everything: Sequence[Manifest],
) -> Iterator[Finding]:
    """``asked`` are the pods whose ports count; for egress (None) those of the peers."""
    found: list[Manifest] = []
    for peer in peers:
        selector = peer.get("podSelector")
        if selector is None or "namespaceSelector" in peer:
            continue
        here = [t for t in everything if matches(selector, labels_of(t))]
        found += here
        if not here:
            yield Finding(label(policy), "policies", f"peer {selector} finds no pod")
    for port in rule.get("ports") or []:
        name = port.get("port")
        if isinstance(name, str) and any(name not in _ports(t) for t in asked or found):
            yield Finding(
                label(policy), "policies", f"port {name!r} is none of the pods' it is for"
            )


def _ports(template: Manifest) -> set[str | int]:
    return {port for container in containers(template) for port in named_ports(container)}


def _expression(expression: Manifest, labels: Manifest) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator in {"Exists", "DoesNotExist"}:
        return (key in labels) == (operator == "Exists")
    inside = labels.get(key) in (expression.get("values") or [])
    return inside == (operator == "In")
