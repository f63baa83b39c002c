"""Which model a command uses: a folder, a version, an alias, the champion, or the shipped one."""

from __future__ import annotations

from pathlib import Path

from tudsr.errors import ModelError, RegistryError
from tudsr.profile import PROJECT_ROOT, RegistrySettings

SHIPPED = PROJECT_ROOT / "models" / "small"


def locate_model(model: str | None = None, name: str = RegistrySettings().model_name) -> Path:
    """The folder of the bundle to use.

    ``model`` is a bundle's folder, a version number or an alias. None means the champion, else the
    model that comes with the project. MLflow is asked only where a folder is not given.

    Raises:
        ModelError: nothing of that kind; names the remedy.
    """
    if model is not None and Path(model).is_dir():
        return Path(model)
    from tudsr.release.registry import by_alias, champion, fetch, get_version

    if model is not None and model.isdigit():
        return fetch(get_version(name, model))
    if model is not None:
        found = by_alias(name, model)
        if found is None:
            raise ModelError(
                f"no model {model!r}: give a bundle's folder, a version number or an alias such as "
                "champion or challenger; `tudsr models` lists them"
            )
        return fetch(found)
    try:
        current = champion(name)
    except ImportError as error:
        raise RegistryError(f"the registry needs MLflow: {error}") from None
    if current is not None:
        return fetch(current)
    if (SHIPPED / "bundle.json").is_file():
        return SHIPPED
    raise ModelError(
        "there is no model yet: run `make run` to train one and `tudsr promote` to make it "
        "champion, or give --model a bundle's folder, a version or `challenger`"
    )
