"""When a step's cached result still holds: not after the library behind it has changed."""

from __future__ import annotations

from zenml.config.cache_policy import CachePolicy

from tudsr.provenance import code_fingerprint


def library_code() -> str:
    """Fingerprint of the library and of the steps; ZenML sees only a step's own source."""
    return code_fingerprint(("tudsr", "steps"))


def packaging_code() -> str:
    """The same with the service, which is part of what is packaged."""
    return code_fingerprint(("tudsr", "steps", "serving"))


# ZenML turns a function into its source.
ON_LIBRARY = CachePolicy(cache_func=library_code)  # pyright: ignore[reportArgumentType]
ON_PACKAGING = CachePolicy(cache_func=packaging_code)  # pyright: ignore[reportArgumentType]
