"""Which Kubernetes Secrets and ConfigMaps the steps get: names of keys only, never a value.

A key has the name of the environment variable that it becomes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tudsr.errors import SettingsError

Secrets = Mapping[str, Sequence[str]]

DEFAULT: dict[str, list[str]] = {
    "tudsr-zenml": ["ZENML_STORE_URL", "ZENML_STORE_API_KEY"],
    "tudsr-stores": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
}

DEFAULT_CONFIG_MAPS: dict[str, list[str]] = {
    "tudsr-settings": [
        "AWS_ENDPOINT_URL",
        "AWS_DEFAULT_REGION",
        "MLFLOW_TRACKING_URI",
        "TUDSR_DVC_REMOTE",
    ],
}
"""As ``k8s/base/settings.yaml`` makes it."""

_NEEDED = DEFAULT["tudsr-zenml"]
_SOUNDS_SECRET = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|API_KEY|ACCESS_KEY|CREDENTIALS?)$")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_FROM_ZENML = "ZENML_STORE_"
"""ZenML puts its server's address and a token of the run into each step's environment."""


def check_secrets(secrets: Secrets) -> None:
    """Look for what every step needs.

    Raises:
        SettingsError: nothing tells the steps where ZenML's server is, or a Secret lacks its name
            or its keys.
    """
    for name, variables in secrets.items():
        if not _NAME.fullmatch(name) or not variables or not all(variables):
            raise SettingsError(
                f"secrets: {name!r} with keys {list(variables)} is no Secret: it needs a name of "
                "lower case letters, digits, dots and dashes, and at least one key"
            )
    given = {variable for variables in secrets.values() for variable in variables}
    missing = [variable for variable in _NEEDED if variable not in given]
    if missing:
        raise SettingsError(
            f"no Secret gives the steps {' and '.join(missing)}, so they could not reach ZenML's "
            'server. Add {"tudsr-zenml": ' + str(_NEEDED).replace("'", '"') + "} to secrets of the "
            "orchestrator, and make that Secret: docs/kubeflow.md has the command"
        )


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """ZenML's environment of a step without its server's address and credentials."""
    return {k: v for k, v in environment.items() if not k.startswith(_FROM_ZENML)}


def check_environment(step: str, environment: Mapping[str, str]) -> None:
    """Plain variables are readable by everybody who may see the run.

    Raises:
        SettingsError: one of them sounds like a secret.
    """
    leaked = sorted(name for name in environment if _SOUNDS_SECRET.search(name.upper()))
    if leaked:
        raise SettingsError(
            f"{step} has {', '.join(leaked)} as plain environment, which everybody who may see the "
            "run can read. Put it into a Kubernetes Secret and add that to secrets of the "
            "orchestrator"
        )


def parse_secrets(given: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=VARIABLE,VARIABLE`` as on the command line.

    Raises:
        SettingsError: not of that form.
    """
    made: dict[str, list[str]] = {}
    for text in given:
        name, _, variables = text.partition("=")
        if not (name and variables):
            raise SettingsError(f"--secret {text!r} is not NAME=VARIABLE,VARIABLE")
        made.setdefault(name, []).extend(variables.split(","))
    return made
