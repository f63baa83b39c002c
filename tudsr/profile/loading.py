"""Reading and writing profiles, and errors that name the nearest valid setting."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tudsr.errors import SettingsError
from tudsr.profile.profile import Profile

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PROFILE_DIR = PROJECT_ROOT / "configs" / "profiles"


def load_profile(name: str | Path) -> Profile:
    """Read a profile by name (``tiny``) or by path (``my.yaml``).

    Raises:
        SettingsError: no such profile, not YAML, or a setting that is unknown or out of bounds.
    """
    path = _find(name)
    try:
        return Profile.model_validate(_merged(path, seen=()))
    except ValidationError as error:
        raise SettingsError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from None


def dump_profile(profile: Profile) -> str:
    """The profile with every setting written out, as YAML."""
    return yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False)


def profile_names() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(p.stem for p in PROFILE_DIR.glob("*.yaml"))


def _find(name: str | Path) -> Path:
    text = str(name)
    path = Path(text) if text.endswith((".yaml", ".yml")) else PROFILE_DIR / f"{text}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(text, profile_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise SettingsError(
            f"no profile {text!r}{hint} Give one of {', '.join(profile_names())}, or a .yaml file"
        )
    return path


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise SettingsError(f"{path}: profiles extend each other in a circle")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise SettingsError(
            f"{path}: a profile is a mapping of settings, not a {type(raw).__name__}"
        )
    parent = raw.pop("extends", None)
    base = _merged(_find(parent), (*seen, path)) if parent else {}
    return _overlay(base, {"name": path.stem, **raw})


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in top.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _overlay(out[key], value) if nested else value
    return out


def _explain(error: Any) -> str:
    """One sentence for one pydantic error; an unknown key names its nearest valid neighbour."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']} (got {error['input']!r})"
    valid = _keys_at(error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(valid)}"
    return f"unknown setting {where!r}; {hint}"


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    model: Any = Profile
    for part in loc:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
