"""Faults that schemas do not see and only a server, or a pod that never starts, would show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from deploy.lint import custom, gpus, pods, references, selectors
from deploy.lint.finding import Finding
from deploy.manifests import Manifest

__all__ = ["RULES", "Finding", "check"]

Rule = Callable[[Sequence[Manifest]], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    pods.quantities,
    pods.volumes,
    pods.ports,
    pods.restricted,
    gpus.pools,
    selectors.own_labels,
    selectors.services,
    selectors.budgets,
    selectors.policies,
    selectors.scalers,
    references.images,
    references.config_maps,
    references.claims,
    custom.routes,
    custom.monitors,
    custom.queues,
    custom.scopes,
    custom.training,
)


def check(objects: Sequence[Manifest], secrets: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """All faults of a set of objects.

    Args:
        objects: all that will be in the namespace.
        secrets: the Secrets that will be there, to their keys.
    """
    found = [finding for rule in RULES for finding in rule(objects)]
    return [*found, *references.secrets(objects, secrets)]
